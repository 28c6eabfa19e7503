import { join } from 'node:path';
import * as v from 'valibot';
import { writeAtomic } from '../../host/atomic.ts';
import { readPlainFile } from '../../host/plain-file.ts';

/**
 * Signatures and attachments that registries and web servers reported absent, so that the next pull into the folder does not ask again. It
 * only saves requests: without it, everything is asked again.
 */
export interface AbsentRecord {
  /** Whether this was absent when it was last asked for. */
  has(name: string): boolean;
  /** @param name full reference with its tag, or URL */
  set(name: string, isAbsent: boolean): void;
  /** Writes the file if its content has changed. */
  save(): Promise<void>;
}

/** A file in the folder that is pulled into. */
export const ABSENT_FILE = 'absent-signatures.json';
/** A name has some 200 characters: room for 50,000 of them. A larger file is ignored. */
const LIMIT_BYTES = 16 * 1024 * 1024;

const schema = v.pipe(v.string(), v.parseJson(), v.object({ absent: v.array(v.string()) }));

/** Reads the record of a folder. A file that is missing, not plain, too large or malformed counts as empty. */
export async function openAbsentRecord(directory: string): Promise<AbsentRecord> {
  const path = join(directory, ABSENT_FILE);
  const bytes = await readPlainFile(path, LIMIT_BYTES);
  const before = bytes?.toString('utf8') ?? '';
  const parsed = v.safeParse(schema, before);
  const names = new Set(parsed.success ? parsed.output.absent : []);
  let written = before;
  return {
    has: (name) => names.has(name),
    set: (name, isAbsent) => void (isAbsent ? names.add(name) : names.delete(name)),
    save: async () => {
      const text = `${JSON.stringify({ absent: [...names].toSorted() }, undefined, 1)}\n`;
      if (text === written || (names.size === 0 && before === '')) return;
      await writeAtomic(path, text);
      written = text;
    },
  };
}
