import { rm } from 'node:fs/promises';
import { createArchivePool } from '../extract/pool.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { readOpenStore, type StoreRecord, writeStoreRecord } from './store-record.ts';

export type StoreCheck =
  | { readonly kind: 'intact' }
  /** @property got the sha256 that the image has, or why it cannot be read */
  | { readonly kind: 'damaged'; readonly got: string }
  /** No store is open. */
  | { readonly kind: 'none' };

/**
 * Hashes the file that is mounted, in a thread of low priority, and records it where it is intact. A damaged copy on the disk loses its name,
 * so that the next opening copies it again; closing the store is left to the caller. Rejects with the signal's reason.
 */
export async function checkStore(host: Host, { signal }: { readonly signal: AbortSignal }): Promise<StoreCheck> {
  const record = await readOpenStore(host);
  if (record === undefined) return { kind: 'none' };
  const got = await hashOf(host, record, signal);
  if (got !== record.sha256) {
    if (record.placement === 'disk') await rm(record.image, { force: true });
    return { kind: 'damaged', got };
  }
  const now = await readOpenStore(host);
  if (record.verified === 'pending' && now?.image === record.image && now.sha256 === record.sha256) {
    await writeStoreRecord(host, { ...now, verified: 'yes' });
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
