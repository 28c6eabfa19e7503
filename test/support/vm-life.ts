import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { CACHE } from './cache.ts';
import { commitOfSources } from './figures.ts';

const lifeSchema = v.object({
  /** When it ended, ISO 8601. */
  at: v.string(),
  commit: v.string(),
  isWell: v.boolean(),
  /** What it went through, and how long each part took; at the end why it is not well. */
  notes: v.pipe(v.array(v.string()), v.readonly()),
});

/** The last whole life of a node in a virtual machine. */
export type KeptLife = v.InferOutput<typeof lifeSchema>;

const KEPT = join(CACHE, 'vm-life.json');

/** Keeps it for the report of the boot tests. */
export async function keepLife({ isWell, notes }: Pick<KeptLife, 'isWell' | 'notes'>, file = KEPT): Promise<void> {
  const kept: KeptLife = { at: new Date().toISOString(), commit: await commitOfSources(), isWell, notes };
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, `${JSON.stringify(kept)}\n`);
}

/** Undefined where none was gone through yet. */
export async function readLife(file = KEPT): Promise<KeptLife | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined);
  return text === undefined ? undefined : v.parse(lifeSchema, JSON.parse(text));
}
