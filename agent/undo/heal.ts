import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import type { ErrorRecord } from '../model/errors.ts';
import { closeStore } from '../mount/close-store.ts';
import { renewEmptyStore } from '../mount/empty-store.ts';
import { healDangling } from '../mount/heal-dangling.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import type { StorageLocation } from '../storage/records.ts';

export interface HealNodeRequest {
  /** The main store of the engines. */
  readonly location: StorageLocation;
  /** Why the store cannot stay; for the log. */
  readonly error: ErrorRecord;
  readonly act: Act;
  /** Stops the metadata tree: without the store it would offer images whose layers no registry has. A mirror that does not answer is skipped. */
  readonly stopMirror: () => Promise<void>;
}

/**
 * Makes engines work without the store image: unmounts it, by force if it is in use, puts a valid empty store in its place, and removes what dangles in
 * the main store. Also right if some of this was done already. The files that point engines to the store are kept, so that the store is used again as
 * soon as a run can open it.
 * @returns what was done, for people
 * @throws PrestageError ERR_STORE_BUSY, ERR_STORE_DANGLING, ERR_STORAGE
 */
export async function healNode(host: Host, request: HealNodeRequest): Promise<readonly string[]> {
  const { location, error, act, stopMirror } = request;
  host.log('warning', `${error.message}; the engines continue without the store image`);
  await stopMirror();
  await closeStore(host, { act, force: true });
  await renewEmptyStore(host, act);
  const removed = await healDangling(host, { location, stores: await additionalStores(host), act });
  for (const what of removed) host.log('warning', `removed ${what}: it was based on the store image`);
  return removed.map((what) => `removed ${what}`);
}
