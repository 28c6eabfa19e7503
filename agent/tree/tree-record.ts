import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { writeAtomic } from '../host/atomic.ts';
import { readPlainFile } from '../host/plain-file.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';

/** Identifies the source of a tree. Every boot asks for a tree by its key. */
export type TreeKey = string;

/** State of a tree. `isKept`: its blobs can be trusted: they have been hashed, and were synced or written in this boot. */
export type TreeState =
  | { readonly kind: 'complete'; readonly key: TreeKey; readonly result: unknown }
  | { readonly kind: 'started'; readonly key: TreeKey; readonly isKept: boolean }
  | { readonly kind: 'none' };

const RECORD_FILE = 'tree.json';
const STARTED_FILE = 'tree.partial.json';
const RECORD_LIMIT_BYTES = 64 * 2 ** 20;

const recordSchema = v.object({ version: v.literal(1), key: v.string(), result: v.unknown() });
const startedSchema = v.object({ version: v.literal(1), key: v.string(), bootId: v.string() });

/**
 * Reads the state of a tree. A note with the boot id exists while the tree is being filled, because files that were not synced in an earlier boot may
 * be truncated, or contain zeros in their full size, without any visible sign.
 */
export async function readTreeState(root: string, bootId: string): Promise<TreeState> {
  const started = v.safeParse(startedSchema, await readSealed(join(root, STARTED_FILE)));
  if (started.success) return { kind: 'started', key: started.output.key, isKept: started.output.bootId === bootId };
  const record = v.safeParse(recordSchema, await readSealed(join(root, RECORD_FILE)));
  return record.success ? { kind: 'complete', key: record.output.key, result: record.output.result } : { kind: 'none' };
}

/** Records, durably, that filling the tree has begun. The tree does not count as complete any more. */
export async function noteStart(root: string, key: TreeKey, bootId: string): Promise<void> {
  await writeAtomic(join(root, STARTED_FILE), sealRecord({ version: 1, key, bootId }));
  await rm(join(root, RECORD_FILE), { force: true });
}

/** Records, durably, that the tree is complete, and the result. Call it after everything has been synced. */
export async function noteEnd(root: string, key: TreeKey, result: unknown): Promise<void> {
  await writeAtomic(join(root, RECORD_FILE), sealRecord({ version: 1, key, result }));
  await rm(join(root, STARTED_FILE), { force: true });
}

/** Whether a directory contains nothing but the top entries of a tree. */
export async function isTreeRoot(root: string): Promise<boolean> {
  const names = await readdir(root).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const own = new Set([RECORD_FILE, STARTED_FILE, 'docker', '.scratch']);
  return names.every((name) => own.has(name) || /^\..+\.tmp$/.test(name));
}

async function readSealed(path: string): Promise<unknown> {
  const bytes = await readPlainFile(path, RECORD_LIMIT_BYTES);
  return bytes === undefined ? undefined : unsealRecord(bytes.toString('utf8'));
}
