import { access, constants } from 'node:fs/promises';
import { type Host, hostPath } from '../host/host.ts';
import { STORE_RECORD } from '../model/places.ts';
import { readOpenStore } from '../mount/store-record.ts';
import { probeStore } from '../undo/assess-store.ts';
import type { StoreNow } from './facts.ts';
import { type Look, look } from './look.ts';

/** A person is waiting for the answer, and a working disk answers in milliseconds. */
const DISK_LIMIT_MS = 5000;

/** Finds the mounted store image. The record, the boot and the mount table must agree on it; then its disk is probed. */
export async function storeNow(host: Host): Promise<Look<StoreNow>> {
  return await look(async () => {
    await assertReadable(hostPath(host, STORE_RECORD));
    const open = await readOpenStore(host);
    return { open, probe: await look(async () => await probeStore(host, { open, limitMs: DISK_LIMIT_MS })) };
  });
}

/** True if the store cannot be read. Do not read it again: its disk may never answer. */
export function isDead(store: Look<StoreNow>): boolean {
  return store.kind === 'seen' && store.value.probe.kind === 'seen' && store.value.probe.value.kind === 'unreadable';
}

/** @throws NodeJS.ErrnoException if a file may exist that this user cannot read */
export async function assertReadable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}
