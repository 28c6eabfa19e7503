import { processStartMs, readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { readSetup, type WrittenFile } from '../system-files/record.ts';
import { crioPid } from './crio-process.ts';
import { CRIO_DROP_IN, ETC_STORAGE_CONF } from './engine-facts.ts';

/**
 * Whether CRI-O uses our store. It reads the list of stores only when it starts; SIGHUP does not change that. `unaware`: it was started before the file
 * that names the store was written, and must be restarted. `not-running`: it will read the file when it starts.
 */
export type CrioAwareness = 'not-running' | 'aware' | 'unaware';

/** Files that tell CRI-O about the store. */
const NAMES_STORE: ReadonlySet<string> = new Set([CRIO_DROP_IN, ETC_STORAGE_CONF]);

/**
 * Looks at the CRI-O of this machine. Any user may ask.
 * @throws NodeJS.ErrnoException if the record of our files may not be read
 */
export async function crioAwareness(host: Host): Promise<CrioAwareness> {
  const pid = crioPid(host);
  const startedMs = pid === undefined ? undefined : await processStartMs(pid);
  if (startedMs === undefined) return 'not-running';
  const written = (await readSetup(host))?.written ?? [];
  return knowsStore(written, { bootId: await readBootId(), startedMs }) ? 'aware' : 'unaware';
}

/**
 * Whether a CRI-O that was started at this time has read all files that name the store. Both times count from the boot, because the clock may be set in
 * between. Files of an earlier boot were there before. Pure.
 */
export function knowsStore(written: readonly WrittenFile[], crio: { readonly bootId: string; readonly startedMs: number }): boolean {
  return written.every(({ path, at }) => !NAMES_STORE.has(path) || at?.bootId !== crio.bootId || at.sinceBootMs < crio.startedMs);
}
