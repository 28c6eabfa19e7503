import { join } from 'node:path';
import * as v from 'valibot';
import { writeAtomic } from '../../host/atomic.ts';
import { readPlainFile } from '../../host/plain-file.ts';

/**
 * Artifacts that `pull --skip-artifacts` has left out of a folder, by full reference, with a description in words: so that `build` can tell
 * them from images that were never pulled.
 */
export type LeftOut = ReadonlyMap<string, string>;

/** A file in the folder that is pulled into. */
const LEFT_OUT_FILE = 'left-out.json';
/** A line has some 200 characters: room for 50,000 of them. A larger file is ignored. */
const LIMIT_BYTES = 16 * 1024 * 1024;

const schema = v.pipe(v.string(), v.parseJson(), v.object({ leftOut: v.record(v.string(), v.string()) }));

/** Reads the record of a folder. A file that is missing, not plain, too large or malformed counts as empty. */
export async function readLeftOut(directory: string): Promise<LeftOut> {
  const bytes = await readPlainFile(join(directory, LEFT_OUT_FILE), LIMIT_BYTES);
  const parsed = v.safeParse(schema, bytes?.toString('utf8') ?? '');
  return new Map(parsed.success ? Object.entries(parsed.output.leftOut) : []);
}

/** Writes the record if it differs from the existing one. */
export async function writeLeftOut(directory: string, leftOut: LeftOut): Promise<void> {
  const text = (all: LeftOut): string =>
    `${JSON.stringify({ leftOut: Object.fromEntries([...all].toSorted(([a], [b]) => (a < b ? -1 : 1))) }, undefined, 1)}\n`;
  if (text(await readLeftOut(directory)) !== text(leftOut)) await writeAtomic(join(directory, LEFT_OUT_FILE), text(leftOut));
}
