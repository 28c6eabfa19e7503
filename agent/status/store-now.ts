import { access, constants } from 'node:fs/promises';
import { type Host, hostPath } from '../host/host.ts';
import { STORE_RECORD } from '../model/places.ts';
import { readOpenStore } from '../mount/store-record.ts';
import { probeStore } from '../release/assess-store.ts';
import type { StoreNow } from './facts.ts';
import { type Look, look } from './look.ts';

/** A person waits for the answer, and a disk that works answers in milliseconds. */
const DISK_LIMIT_MS = 5000;

/** What is mounted as store: record, boot and mount table must agree on it, and its disk must answer. */
export async function storeNow(host: Host): Promise<Look<StoreNow>> {
  return await look(async () => {
    await assertReadable(hostPath(host, STORE_RECORD));
    const open = await readOpenStore(host);
    return { open, probe: await look(async () => await probeStore(host, { open, limitMs: DISK_LIMIT_MS })) };
  });
}

/** A store that cannot be read is not read again: its disk may never answer. */
export function isDead(store: Look<StoreNow>): boolean {
  return store.kind === 'seen' && store.value.probe.kind === 'seen' && store.value.probe.value.kind === 'unreadable';
}

/** @throws NodeJS.ErrnoException where a file may be there that this user cannot read */
export async function assertReadable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}
