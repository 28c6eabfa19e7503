import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import type { ArchivedImage, ArchivesPayload } from '../extract/archives.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { StorageContents } from '../extract/storage.ts';
import { writeAtomic } from '../host/atomic.ts';
import { type Host, hostPath } from '../host/host.ts';
import { type Digest, isDigest } from '../model/digest.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import type { Descriptor } from '../model/manifest.ts';
import { isPresent, type KnownImage, type RefusedImage } from './plan.ts';

/** What looking into an archive has told: valid for that size and time of the file. */
interface SurveyRecord {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  /** Digest of `manifest.json`: of the image, or of the list. */
  readonly topDigest: Digest;
  /** Digest of the image's own manifest; differs from the top one where that is a list. */
  readonly imageDigest: Digest;
  readonly layers: readonly Descriptor[];
}

/** Survey records by archive name, kept over boots so that a no-op run opens no archive. */
export const SURVEY_FILE = '/var/lib/prestage-agent/surveys.json';

const digestSchema = v.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'is not a sha256 digest');
const surveysSchema = v.object({
  version: v.literal(1),
  archives: v.record(
    v.string(),
    v.object({
      sizeBytes: v.number(),
      modifiedMs: v.number(),
      topDigest: digestSchema,
      imageDigest: digestSchema,
      layers: v.array(v.object({ digest: digestSchema, sizeBytes: v.number(), mediaType: v.string() })),
    }),
  ),
});
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
}

/**
 * Learns what is in the archives, opening only those that must be: an image that its digest reference shows to be present, and an archive
 * that was looked into before and has not changed, stay closed.
 */
export async function surveyArchives(payload: ArchivesPayload, storage: StorageContents, context: SurveyContext): Promise<SurveyedPayload> {
  const surveys = new Map<string, SurveyRecord>();
  const refused: RefusedImage[] = [...payload.refused];
  const known = await Promise.all(
    payload.images.map(async (image): Promise<KnownImage | undefined> => {
      const { digest } = image.listed.reference;
      const remembered = rememberedSurvey(image, context.known);
      if (remembered !== undefined) surveys.set(image.archive.name, remembered);
      if (digest !== undefined && !context.suspect.has(image.listed.text) && isPresent({ names: image.names, digests: [digest] }, storage))
        return knownImage(image, [digest], undefined);
      try {
        const survey = remembered ?? (await lookInto(image, context));
        surveys.set(image.archive.name, survey);
        assertHolds(image, survey);
        return knownImage(image, [...new Set([survey.topDigest, survey.imageDigest])], survey.layers);
      } catch (error) {
        context.signal.throwIfAborted();
        refused.push({ reference: image.listed.text, error: errorRecord(error) });
        return undefined;
      }
    }),
  );
  return { images: known.filter((image) => image !== undefined), refused, surveys };
}

/** The records of earlier runs; none where the file is missing or cannot be read as such: the archives are then opened again. */
export async function readSurveys(host: Host): Promise<Surveys> {
  const text = await readFile(hostPath(host, SURVEY_FILE), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return new Map();
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), surveysSchema), text);
  if (parsed.success) return new Map(Object.entries(parsed.output.archives));
  host.log('warning', `${SURVEY_FILE} cannot be read and is made anew: ${parsed.issues[0].message}`);
  return new Map();
}

export async function writeSurveys(host: Host, surveys: Surveys): Promise<void> {
  await writeAtomic(hostPath(host, SURVEY_FILE), `${JSON.stringify({ version: 1, archives: Object.fromEntries(surveys) })}\n`);
}

function rememberedSurvey(image: ArchivedImage, known: Surveys): SurveyRecord | undefined {
  const record = known.get(image.archive.name);
  return record?.sizeBytes === image.archive.sizeBytes && record.modifiedMs === image.archive.modifiedMs ? record : undefined;
}

async function lookInto(image: ArchivedImage, context: SurveyContext): Promise<SurveyRecord> {
  const { path, name, sizeBytes, modifiedMs } = image.archive;
  const found = await context.pool.survey({ path, name, architecture: context.host.architecture }, { signal: context.signal });
  return { sizeBytes, modifiedMs, topDigest: found.topDigest, imageDigest: found.imageDigest, layers: found.image.layers };
}

/** A digest reference says what the archive must hold. */
function assertHolds(image: ArchivedImage, survey: SurveyRecord): void {
  const { digest } = image.listed.reference;
  if (digest === undefined || digest === survey.topDigest || digest === survey.imageDigest) return;
  throw new PrestageError(
    'ERR_ARCHIVE_REFERENCE',
    `${image.archive.path} holds ${survey.topDigest}, its reference ${image.listed.text} says ${digest}`,
    'Write the archive again at the factory',
  );
}

function knownImage(image: ArchivedImage, digests: readonly Digest[], layers: readonly Descriptor[] | undefined): KnownImage {
  return { reference: image.listed.text, names: image.names, digests, layers, archiveBytes: image.archive.sizeBytes };
}
