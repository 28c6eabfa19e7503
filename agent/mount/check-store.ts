import { rm } from 'node:fs/promises';
import { createArchivePool } from '../extract/pool.ts';
import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { type CheckTarget, findCheckTarget, isSameFile } from './check-target.ts';
import { otherSha256 } from './store-image.ts';
import { type StoreRecord, writeStoreRecord } from './store-record.ts';

export type StoreCheck = { readonly kind: 'intact' } | DamagedStore;

export interface DamagedStore {
  readonly kind: 'damaged';
  /** Continues the name of the image: `has the sha256 …, but its bundle says …`, or `cannot be read: …`. */
  readonly fault: string;
}

/**
 * Hashes the image of a store that was found open, in a thread of low priority. Changes nothing: before acting on the result, the caller must look
 * again whether that store is still open. Rejects with the signal's reason.
 */
export async function hashStore(host: Host, { record }: CheckTarget, signal: AbortSignal): Promise<StoreCheck> {
  const fault = await faultOf(host, record, signal);
  return fault === undefined ? { kind: 'intact' } : { kind: 'damaged', fault };
}

/** Whether the same store is still open. A result about another store must be ignored. */
export async function isStillOpen(host: Host, target: CheckTarget | undefined): Promise<boolean> {
  return (await findCheckTarget(host))?.identity === target?.identity;
}

/**
 * Records that the open store was found intact. The caller must keep the store from being closed meanwhile, by holding the check lock or the run
 * lock.
 */
export async function recordIntact(host: Host, { record }: CheckTarget, act: Act): Promise<void> {
  if (record.verified !== 'pending') return;
  await act('record-check', async () => await writeStoreRecord(host, { ...record, verified: 'yes' }));
}

/** Removes a damaged copy from the disk, so that the next opening copies the image again. Another file with that name is kept. */
export async function dropDamagedCopy(target: CheckTarget, act: Act): Promise<void> {
  const { placement, image } = target.record;
  if (placement !== 'disk' || !(await isSameFile(target))) return;
  await act('drop-damaged-copy', async () => await rm(image, { force: true }));
}

/** Undefined if the image is intact. */
async function faultOf(host: Host, record: StoreRecord, signal: AbortSignal): Promise<string | undefined> {
  await using pool = createArchivePool({ size: 1, log: host.log });
  try {
    const { sha256 } = await pool.hash({ path: record.image }, { signal });
    return sha256 === record.sha256 ? undefined : otherSha256(sha256, record.sha256);
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_BUNDLE_FILE') return error.message.replace(`${record.image} `, '');
    throw error;
  }
}
