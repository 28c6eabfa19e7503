import { processStartMs, readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { readSetup, type WrittenFile } from '../system-files/record.ts';
import { crioPid } from './crio-process.ts';
import { CRIO_DROP_IN, ETC_STORAGE_CONF } from './engine-facts.ts';

/**
 * Whether CRI-O looks into our store. It reads which stores there are only when it starts, SIGHUP does not change that: an `unaware` one was
 * started before the file was written that names the store, and must be restarted. One that is `not-running` reads it when it starts.
 */
export type CrioAwareness = 'not-running' | 'aware' | 'unaware';

/** Files by which CRI-O learns of the store. */
const NAMES_STORE: ReadonlySet<string> = new Set([CRIO_DROP_IN, ETC_STORAGE_CONF]);

/**
 * Looks at the CRI-O of this machine. Any user may ask.
 * @throws NodeJS.ErrnoException where the record of our files may not be read
 */
export async function crioAwareness(host: Host): Promise<CrioAwareness> {
  const pid = crioPid(host);
  const startedMs = pid === undefined ? undefined : await processStartMs(pid);
  if (startedMs === undefined) return 'not-running';
  const written = (await readSetup(host))?.written ?? [];
  return knowsStore(written, { bootId: await readBootId(), startedMs }) ? 'aware' : 'unaware';
}

/**
 * Whether a CRI-O that was started then has read all that names the store. Both times count from the boot: the machine's clock may be set in
 * between. What an earlier boot wrote was there before. Pure.
 */
export function knowsStore(written: readonly WrittenFile[], crio: { readonly bootId: string; readonly startedMs: number }): boolean {
  return written.every(({ path, at }) => !NAMES_STORE.has(path) || at?.bootId !== crio.bootId || at.sinceBootMs < crio.startedMs);
}
