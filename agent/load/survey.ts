import * as v from 'valibot';
import { type LayoutImage as FoundImage, layoutImage } from '../extract/oci-layout.ts';
import type { LayoutImage, Payload, SourceImage } from '../extract/payload.ts';
import type { ArchivePool } from '../extract/pool.ts';
import { writeAtomic } from '../host/atomic.ts';
import { readIfThere } from '../host/files.ts';
import { type Host, hostPath } from '../host/host.ts';
import type { Digest } from '../model/digest.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import type { Descriptor } from '../model/manifest.ts';
import { digestSchema } from '../model/schemas.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';
import { isPresent } from '../storage/is-present.ts';
import type { StorageContents } from '../storage/records.ts';
import type { KnownImage, RefusedImage } from './plan.ts';

/** What an image is made of. */
interface ImageContents {
  /** Digest of `manifest.json`: of the image, or of the list. */
  readonly topDigest: Digest;
  /** Digest of the image's own manifest; differs from the top one if that is a list. */
  readonly imageDigest: Digest;
  readonly layers: readonly Descriptor[];
}

/** What was found in an archive: valid for this size and time of the file. */
interface SurveyRecord extends ImageContents {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** Survey records by archive name, kept over boots so that a no-op run opens no archive. */
const SURVEY_FILE = '/var/lib/prestage-agent/surveys.json';

const archivesSchema = v.record(
  v.string(),
  v.object({
    sizeBytes: v.number(),
    modifiedMs: v.number(),
    topDigest: digestSchema,
    imageDigest: digestSchema,
    layers: v.array(v.object({ digest: digestSchema, sizeBytes: v.number(), mediaType: v.string() })),
  }),
);
const surveysSchema = v.object({ version: v.literal(3), archives: archivesSchema });
export type Surveys = ReadonlyMap<string, SurveyRecord>;

export interface SurveyContext {
  readonly host: Host;
  readonly pool: ArchivePool;
  readonly known: Surveys;
  /** References that are to be loaded again although storage lists them. */
  readonly suspect: ReadonlySet<string>;
  readonly signal: AbortSignal;
}

export interface SurveyedPayload {
  readonly images: readonly KnownImage[];
  readonly refused: readonly RefusedImage[];
  /** Records of all archives of the payload that are known now. */
  readonly surveys: Surveys;
  /** Whether an archive had to be opened for them: then they should be written. */
  readonly hasNews: boolean;
}

/**
 * Finds out what the images are made of, and opens only those that it must. An image whose digest is known to be present stays closed, and so does an
 * archive that was opened before and has not changed.
 */
export async function surveyPayload(payload: Payload, storage: StorageContents, context: SurveyContext): Promise<SurveyedPayload> {
  const surveys = new Map<string, SurveyRecord>();
  const refused: RefusedImage[] = [...payload.refused];
  let hasNews = false;
  const known = await Promise.all(
    payload.images.map(async (image): Promise<KnownImage | undefined> => {
      const { digest } = image;
      const remembered = rememberedSurvey(image, context.known);
      if (image.kind === 'archive' && remembered !== undefined) surveys.set(image.archive.name, remembered);
      if (digest !== undefined && !context.suspect.has(image.reference) && isPresent({ names: image.names, digests: [digest] }, storage))
        return knownImage(image, [digest], []);
      try {
        const contents = remembered ?? (await lookInto(image, context));
        hasNews ||= image.kind === 'archive' && remembered === undefined;
        if (image.kind === 'archive')
          surveys.set(image.archive.name, { ...contents, sizeBytes: image.archive.sizeBytes, modifiedMs: image.archive.modifiedMs });
        assertHolds(image, contents);
        return knownImage(image, [...new Set([contents.topDigest, contents.imageDigest])], contents.layers);
      } catch (error) {
        context.signal.throwIfAborted();
        refused.push({ reference: image.reference, error: errorRecord(error) });
        return undefined;
      }
    }),
  );
  return { images: known.filter((image) => image !== undefined), refused, surveys, hasNews };
}

/** The records of earlier runs; none if the file is missing or unreadable: the archives are then opened again. */
export async function readSurveys(host: Host): Promise<Surveys> {
  const text = await readIfThere(hostPath(host, SURVEY_FILE));
  if (text === undefined) return new Map();
  // With one wrong digest in them, every later run would miss a layer and never open the archive again.
  const parsed = v.safeParse(surveysSchema, unsealRecord(text));
  if (parsed.success) return new Map(Object.entries(parsed.output.archives));
  host.log('warning', `${SURVEY_FILE} is damaged or of another version, and is written anew`);
  return new Map();
}

export async function writeSurveys(host: Host, surveys: Surveys): Promise<void> {
  await writeAtomic(hostPath(host, SURVEY_FILE), sealRecord({ version: 3, archives: Object.fromEntries(surveys) }));
}

function rememberedSurvey(image: SourceImage, known: Surveys): SurveyRecord | undefined {
  if (image.kind === 'layout') return undefined;
  const record = known.get(image.archive.name);
  return record?.sizeBytes === image.archive.sizeBytes && record.modifiedMs === image.archive.modifiedMs ? record : undefined;
}

async function lookInto(image: SourceImage, context: SurveyContext): Promise<ImageContents> {
  const { architecture } = context.host;
  if (image.kind === 'layout') {
    const found = await layoutImage(image.layout, image.digest, architecture);
    assertRunsHere(image, found, architecture);
    return { topDigest: image.digest, imageDigest: found.manifestDigest, layers: found.image.layers };
  }
  const found = await context.pool.survey({ path: image.archive.path, name: image.archive.name, architecture }, { signal: context.signal });
  return { topDigest: found.topDigest, imageDigest: found.imageDigest, layers: found.image.layers };
}

/** A list says which of its images is for this machine; an image that stands alone says it in its config. */
function assertRunsHere({ digest, reference }: LayoutImage, found: FoundImage, architecture: string): void {
  if (found.manifestDigest !== digest) return;
  const own = found.architecture;
  if (own === '' || own === architecture) return;
  throw new PrestageError(
    'ERR_ARCHITECTURE',
    `${reference} is an image for linux/${own}, but this node is linux/${architecture}`,
    `At the factory, pull an image for linux/${architecture}`,
  );
}

/** A digest reference, or the bundle's manifest, says what the archive must hold. */
function assertHolds(image: SourceImage, contents: ImageContents): void {
  if (image.digest === undefined || image.digest === contents.topDigest || image.digest === contents.imageDigest) return;
  throw new PrestageError(
    'ERR_ARCHIVE_REFERENCE',
    `${pathOf(image)} holds ${contents.topDigest}, but ${image.reference} must be ${image.digest}`,
    'Write the archive again at the factory',
  );
}

function pathOf(image: SourceImage): string {
  return image.kind === 'layout' ? image.layout : image.archive.path;
}

function knownImage(image: SourceImage, digests: readonly Digest[], layers: readonly Descriptor[]): KnownImage {
  const layerBytes = layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  return {
    reference: image.reference,
    names: image.names,
    digests,
    layers,
    archiveBytes: image.kind === 'layout' ? layerBytes : image.archive.sizeBytes,
    growth: image.growth,
  };
}
