import { rm } from 'node:fs/promises';
import { createArchivePool } from '../extract/pool.ts';
import type { Host } from '../host/host.ts';
import type { Step } from '../host/steps.ts';
import { PrestageError } from '../model/errors.ts';
import { readOpenStore, type StoreRecord, writeStoreRecord } from './store-record.ts';

export type StoreCheck =
  | { readonly kind: 'intact' }
  | DamagedStore
  /** No store is open. */
  | { readonly kind: 'none' };

export interface DamagedStore {
  readonly kind: 'damaged';
  /** The sha256 that the image has, or why it cannot be read. */
  readonly got: string;
  /** The image, where it is a copy on the disk. */
  readonly copy?: string;
}

/** Takes the name from a damaged copy on the disk, so that the next opening copies it again. */
export async function dropDamagedCopy({ copy }: DamagedStore, step: Step): Promise<void> {
  if (copy !== undefined) await step('drop-damaged-copy', async () => await rm(copy, { force: true }));
}

/**
 * Hashes the file that is mounted, in a thread of low priority, and records it where it is intact. What becomes of a damaged one is left to
 * the caller. Rejects with the signal's reason.
 */
export async function checkStore(host: Host, { step, signal }: { readonly step: Step; readonly signal: AbortSignal }): Promise<StoreCheck> {
  const record = await readOpenStore(host);
  if (record === undefined) return { kind: 'none' };
  const got = await hashOf(host, record, signal);
  if (got !== record.sha256) {
    return { kind: 'damaged', got, ...(record.placement === 'disk' && { copy: record.image }) };
  }
  const now = await readOpenStore(host);
  if (record.verified === 'pending' && now?.image === record.image && now.sha256 === record.sha256) {
    await step('record-check', async () => await writeStoreRecord(host, { ...now, verified: 'yes' }));
  }
  return { kind: 'intact' };
}

async function hashOf(host: Host, record: StoreRecord, signal: AbortSignal): Promise<string> {
  await using pool = createArchivePool({ size: 1, log: host.log });
  try {
    return (await pool.hash({ path: record.image }, { signal })).sha256;
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_BUNDLE_FILE') return error.message;
    throw error;
  }
}
