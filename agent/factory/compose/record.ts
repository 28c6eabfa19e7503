import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { writeAtomic } from '../../host/atomic.ts';
import { isInnerPath } from '../../model/bundle.ts';

/** Folder in a bundle that is kept for the next build; no bundle lists it, and nothing of it goes to a partition. */
export const BUILD_FOLDER = '.build';
const RECORD_FILE = 'record.json';
/** Written with every record; records of another version are ignored. */
const RECORD_VERSION = 2;

const fileSchema = v.object({
  path: v.pipe(v.string(), v.check(isInnerPath)),
  sizeBytes: v.number(),
  modifiedMs: v.number(),
  sha256: v.string(),
  /** Of the image of a store: hashes of its pieces. */
  pieces: v.exactOptional(v.object({ sizeBytes: v.number(), sha256: v.array(v.string()) })),
});
const partSchema = v.object({
  key: v.string(),
  files: v.array(fileSchema),
  /** Of a store: root hash of its verity tree. */
  rootHash: v.exactOptional(v.string()),
  /** Of a store or a registry's tree: reference of the image in it that can serve a registry. */
  registryImage: v.exactOptional(v.string()),
});
const recordSchema = v.object({
  version: v.literal(RECORD_VERSION),
  /** By the name of the part: what it was made of, and its files. */
  parts: v.record(v.string(), partSchema),
  /** Unpacked size of layers, in bytes, by digest. */
  unpackedBytes: v.record(v.string(), v.number()),
  /** Archives that are unpacked in the build folder: their key, and by path the digest of each one's manifest, or a sentence about its other content. */
  imported: v.exactOptional(
    v.object({ key: v.string(), tops: v.record(v.string(), v.string()), others: v.exactOptional(v.record(v.string(), v.string())) }),
  ),
  /** The key of the sealed bundle, and its manifest; left out while it is not sealed. */
  sealed: v.exactOptional(v.object({ key: v.string(), file: fileSchema })),
});

/** The results of earlier builds of a bundle, so that a build repeats only what has changed. */
export type BuildRecord = v.InferOutput<typeof recordSchema>;
export type RecordedPart = v.InferOutput<typeof partSchema>;
export type RecordedFile = v.InferOutput<typeof fileSchema>;

const NO_RECORD: BuildRecord = { version: RECORD_VERSION, parts: {}, unpackedBytes: {} };

/** The record of a bundle; an empty one if there is none, or it cannot be used. */
export async function readRecord(output: string): Promise<BuildRecord> {
  const text = await readFile(join(output, BUILD_FOLDER, RECORD_FILE), 'utf8').catch(() => '');
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), recordSchema), text);
  return parsed.success ? parsed.output : NO_RECORD;
}

export async function writeRecord(output: string, record: BuildRecord): Promise<void> {
  await writeAtomic(join(output, BUILD_FOLDER, RECORD_FILE), `${JSON.stringify(record)}\n`);
}

/** Whether a part is as it was made: the same key, and each file with its size and time. Does not read the files. */
export async function isUntouched(output: string, key: string, part: RecordedPart | undefined): Promise<boolean> {
  if (part === undefined || part.key !== key) return false;
  for (const file of part.files) if (!(await isAsRecorded(output, file))) return false;
  return true;
}

/** Whether the bundle is sealed, was made from the same input, and is as it was made. */
export async function isSealed(output: string, key: string, record: BuildRecord): Promise<boolean> {
  const { sealed, parts } = record;
  if (sealed?.key !== key || !(await isAsRecorded(output, sealed.file))) return false;
  for (const part of Object.values(parts)) if (!(await isUntouched(output, part.key, part))) return false;
  return true;
}

async function isAsRecorded(output: string, file: RecordedFile): Promise<boolean> {
  const found = await lstat(join(output, file.path)).catch(() => undefined);
  return found?.isFile() === true && found.size === file.sizeBytes && found.mtimeMs === file.modifiedMs;
}
