import { constants } from 'node:fs';
import { type FileHandle, mkdtemp, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import type { BundleFault } from '../bundle/verify-files.ts';
import { type ArchivedImage, readArchives } from '../extract/archives.ts';
import { removeTree } from '../host/remove-tree.ts';
import type { Bundle, BundleImage } from '../model/bundle.ts';
import type { Digest } from '../model/digest.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { notImageError } from '../model/manifest-content.ts';
import { archiveNameOf } from '../model/reference.ts';
import { STAGES, type Stage } from '../model/stage.ts';
import { pickStageLists } from '../model/stage-lists.ts';
import { reasonOf } from '../model/system-error.ts';
import { type Checked, faultOf, joinChecked, type Part, type VerifyContext, within } from './context.ts';

/** Content of the image lists of a folder of archives. */
export interface ArchivesSurvey extends Checked {
  /** Every archive once, with the digests that it must hold; if there are none, any image is accepted. */
  readonly archives: readonly ListedArchive[];
  /** Number of listed images, by stage. */
  readonly images: Readonly<Partial<Record<Stage, number>>>;
}

export interface ListedArchive {
  /** Relative to the top of the bundle. */
  readonly path: string;
  /** Name of its top directory. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly reference: string;
  readonly expected: readonly Digest[];
}

/** First bytes and minimum length of a gzip file. Source: RFC 1952, 2.3. */
const GZIP_START = Buffer.from([0x1f, 0x8b]);
const GZIP_LEAST_BYTES = 18;

/**
 * Reads the image lists of a folder and finds their archives.
 * @param stages the stages in the manifest of the bundle; without a manifest, the stages that have a list count
 */
export async function surveyFolder(part: Part, stages: Bundle['stages'] | undefined): Promise<ArchivesSurvey> {
  const directory = join(part.directory, part.path);
  const files = await readdir(directory).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${directory} cannot be read: ${reasonOf(cause)}`,
      'Write the bundle again from the factory',
      { cause },
    );
  });
  const wanted = STAGES.filter((stage) => (stages === undefined ? hasList(stage, files) : stages[stage] !== undefined));
  const surveys = await Promise.all(wanted.map(async (stage) => await surveyStage(part, stage, stages?.[stage]?.images)));
  const archives = mergeArchives(surveys.flatMap((survey) => survey.archives));
  const known = new Set(archives.map((archive) => archive.path));
  const strange = files.filter((name) => name.endsWith('.tgz') && !known.has(within(part, name))).toSorted();
  return {
    ...joinChecked([...surveys, { faults: [], notices: strange.map((name) => `${join(directory, name)} is not on any image list`) }]),
    archives,
    images: Object.fromEntries(wanted.map((stage, index) => [stage, surveys[index]?.count ?? 0])),
  };
}

/** Checks one archive. `quick`: it exists and starts like a gzip file. `full`: its blobs match their digests, and its manifest that of its reference. */
export async function verifyArchive(part: Part, archive: ListedArchive, context: VerifyContext): Promise<readonly BundleFault[]> {
  try {
    if (context.mode === 'quick') await requireGzip(join(part.directory, archive.path), archive.sizeBytes);
    else await readWhole(part, archive, context);
    return [];
  } catch (error) {
    context.signal.throwIfAborted();
    return [faultOf(archive.path, error)];
  }
}

/** Checks all archives, the biggest first. */
export async function verifyArchives(
  part: Part,
  archives: readonly ListedArchive[],
  context: VerifyContext,
): Promise<readonly BundleFault[]> {
  const limit = pLimit(context.parallel);
  const order = archives.toSorted((a, b) => b.sizeBytes - a.sizeBytes);
  const faults = new Map(
    await Promise.all(order.map((archive) => limit(async () => [archive.path, await verifyArchive(part, archive, context)] as const))),
  );
  return archives.flatMap((archive) => faults.get(archive.path) ?? []);
}

interface StageSurvey extends Checked {
  readonly archives: readonly ListedArchive[];
  readonly count: number;
}

async function surveyStage(part: Part, stage: Stage, images: readonly BundleImage[] | undefined): Promise<StageSurvey> {
  const directory = join(part.directory, part.path);
  try {
    const payload = await readArchives(directory, stage);
    const digests = new Map(images?.map((image) => [image.reference, image.manifestDigest]));
    return {
      faults: [
        ...payload.refused.map(
          ({ reference, error }): BundleFault => ({ path: within(part, `${archiveNameOf(reference)}.tgz`), ...error }),
        ),
        ...(images === undefined ? [] : listFaults(part, { stage, images, listed: payload.listed })),
      ],
      notices: payload.notices,
      archives: payload.images.map((image) => listedArchive(part, image, digests.get(image.reference))),
      count: payload.listed.length,
    };
  } catch (error) {
    return { faults: [faultOf(part.path === '' ? '.' : part.path, error)], notices: [], archives: [], count: 0 };
  }
}

/** Compares the image list of a stage with the manifest of the bundle, in both directions. */
function listFaults(
  part: Part,
  { stage, images, listed }: { readonly stage: Stage; readonly images: readonly BundleImage[]; readonly listed: readonly string[] },
): readonly BundleFault[] {
  const fault = (message: string): BundleFault => ({
    path: part.path,
    ...errorRecord(new PrestageError('ERR_BUNDLE_FILE', message, 'Build the bundle again at the factory')),
  });
  const inList = new Set(listed);
  const inManifest = new Set(images.map((image) => image.reference));
  return [
    ...images
      .filter((image) => !inList.has(image.reference))
      .map((image) => fault(`the image list of the stage ${stage} lacks ${image.reference}, which is in prestage.json`)),
    ...listed
      .filter((reference) => !inManifest.has(reference))
      .map((reference) => fault(`the image list of the stage ${stage} has ${reference}, which is not in prestage.json`)),
  ];
}

function listedArchive(part: Part, image: ArchivedImage, sealed: Digest | undefined): ListedArchive {
  const expected = [...new Set([sealed, image.digest])].filter((one) => one !== undefined);
  const { name, sizeBytes } = image.archive;
  return { path: within(part, `${name}.tgz`), name, sizeBytes, reference: image.reference, expected };
}

/** Images with one digest under several names share their archive. */
function mergeArchives(archives: readonly ListedArchive[]): readonly ListedArchive[] {
  const byPath = new Map<string, ListedArchive>();
  for (const archive of archives) {
    const earlier = byPath.get(archive.path);
    byPath.set(
      archive.path,
      earlier === undefined ? archive : { ...earlier, expected: [...new Set([...earlier.expected, ...archive.expected])] },
    );
  }
  return [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

async function readWhole(part: Part, archive: ListedArchive, context: VerifyContext): Promise<void> {
  const path = join(part.directory, archive.path);
  const job = { path, name: archive.name, architecture: context.architecture };
  const to = await mkdtemp(join(context.scratch, 'archive-'));
  try {
    const unpacked = await context.pool.unpack({ ...job, writeBlobs: [], to }, { signal: context.signal });
    context.onRead(archive.sizeBytes);
    if (unpacked.notImage !== undefined) throw notImageError(path, unpacked.notImage);
    const others = archive.expected.filter((digest) => digest !== unpacked.topDigest);
    if (others.length === 0) return;
    // A reference may name the image of one platform in the manifest list of the archive.
    const { imageDigest } = await context.pool.survey(job, { signal: context.signal });
    const [wrong] = others.filter((digest) => digest !== imageDigest);
    if (wrong === undefined) return;
    throw new PrestageError(
      'ERR_ARCHIVE_REFERENCE',
      `${path} holds ${unpacked.topDigest}, but ${archive.reference} should be ${wrong}`,
      'Write the archive again at the factory',
    );
  } finally {
    await removeTree(to);
  }
}

async function requireGzip(path: string, sizeBytes: number): Promise<void> {
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_ARCHIVE_READ', `${path} cannot be read: ${reasonOf(cause)}`, 'Write the archive again at the factory');
  });
  const { buffer } = await file.read(Buffer.alloc(GZIP_START.length), 0, GZIP_START.length, 0);
  if (sizeBytes >= GZIP_LEAST_BYTES && buffer.equals(GZIP_START)) return;
  throw new PrestageError(
    'ERR_ARCHIVE_FORMAT',
    `${path} (${sizeBytes} bytes) is not a gzip file`,
    'Write the archive again at the factory',
  );
}

function hasList(stage: Stage, files: readonly string[]): boolean {
  try {
    return pickStageLists(stage, files).length > 0;
  } catch {
    // There are several lists of one kind: readArchives reports which.
    return true;
  }
}
