import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Payload } from '../extract/payload.ts';
import type { ArchivePool } from '../extract/pool.ts';
import { hostPath } from '../host/host.ts';
import { waitForShared } from '../host/lock.ts';
import { syncFileSystem } from '../host/sync.ts';
import { keepWritingBack } from '../host/write-back.ts';
import { errorRecord } from '../model/errors.ts';
import { WRITERS_LOCK } from '../model/places.ts';
import { removeUnfinished } from '../mount/heal-dangling.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import { imageRecordsReader } from '../storage/listed-images.ts';
import { createLoader, type Loader } from '../storage/loader.ts';
import type { StorageLocation } from '../storage/records.ts';
import { readStoredLayers } from '../storage/stored-layers.ts';
import { beginPhase, type RunContext } from './context.ts';
import { executeLoads } from './execute.ts';
import { type LoadStep, promoteAfterFailure } from './plan.ts';
import type { Needs } from './preflight.ts';
import { makeScratch, reclaimScratch, removeScratch } from './scratch.ts';

/** How long writers that a killed run left behind may take to end, in seconds: enough for the longest layer. */
const WRITERS_WAIT_SECONDS = 600;

export interface Delivery {
  readonly payload: Payload;
  readonly location: StorageLocation;
  readonly pool: ArchivePool;
  readonly needs: Needs;
  readonly scratchPath: string;
}

/**
 * Loads what is planned: records durably what is about to change, removes damaged records, then loads.
 * Events report the result of each image; scratch is empty afterwards.
 */
export async function deliver(loads: readonly LoadStep[], delivery: Delivery, context: RunContext): Promise<void> {
  const { host, settings, record, act } = context;
  const { payload, location, pool, needs } = delivery;
  record.update({ unsynced: [...new Set([...record.state.unsynced, ...loads.map((load) => load.image.reference)])] });
  beginPhase(context, 'loading', 'loading images');
  await act('record-plan', async () => await record.commit());
  const scratch = await act('make-scratch', async () => await makeScratch(delivery.scratchPath));
  try {
    const loader = createLoader({
      exec: host.exec,
      location,
      temporaryDirectory: scratch.temporary,
      writersLock: hostPath(host, WRITERS_LOCK),
      signal: context.kill,
    });
    const loadable = await removeDamaged(loads, loader, context);
    if (record.state.suspect.length > 0) await removeUnsure(loads, location, context);
    const sources = new Map(payload.images.map((image) => [image.reference, image]));
    await using _writing = keepWritingBack(host, location.graphroot);
    await executeLoads(loadable, {
      ...context,
      pool,
      loader,
      location,
      stored: await readStoredLayers(location),
      readImages: imageRecordsReader(location, host),
      scratch: scratch.path,
      scratchBytes: needs.aheadBytes,
      parallel: needs.parallel,
      retries: settings.retries,
      sources,
    });
  } finally {
    await act('remove-scratch', async () => await removeScratch(scratch.path));
  }
}

/** Waits for programs that a killed run may have left running, since they change storage and use scratch; then removes its scratch. */
export async function clearAfterKilledRun({ host, settings, act }: RunContext): Promise<void> {
  await waitForShared(host.exec, hostPath(host, WRITERS_LOCK), WRITERS_WAIT_SECONDS);
  await act('reclaim-scratch', async () => await reclaimScratch(host, settings.scratch));
}

/**
 * Removes all damaged records before the first image is loaded, because a layer is removed only with the last image that has it.
 * @returns the loads that can continue; those whose record could not be removed have failed
 */
async function removeDamaged(loads: readonly LoadStep[], loader: Loader, context: RunContext): Promise<readonly LoadStep[]> {
  const damaged = new Map(loads.flatMap((load) => load.replaces.map((replaced) => [replaced.image.id, replaced] as const)));
  let loadable = loads;
  for (const { image, reason } of damaged.values()) {
    context.host.log('warning', `image ${image.id} (${image.names.join(', ')}) is damaged and is loaded again: ${reason}`);
    try {
      await context.act('remove-damaged', async () => await loader.remove(image));
    } catch (thrown) {
      const error = errorRecord(thrown);
      for (const load of loadable.filter((candidate) => candidate.replaces.some((replaced) => replaced.image.id === image.id))) {
        context.onEvent({
          kind: 'image-finished',
          reference: load.image.reference,
          result: 'failed',
          bytes: load.image.archiveBytes,
          error,
        });
        loadable = promoteAfterFailure(
          loadable.filter((other) => other !== load),
          load,
        );
      }
    }
  }
  return loadable;
}

/**
 * Removes what a load of an earlier boot had written, but not yet named, when the machine went down: its files may be cut short, and skopeo would
 * reuse them unchecked.
 */
async function removeUnsure(loads: readonly LoadStep[], location: StorageLocation, { host, act }: RunContext): Promise<void> {
  const blobs = new Set(loads.flatMap((load) => load.image.layers.map((layer) => layer.digest)));
  const stores = (await additionalStores(host)).filter((path) => existsSync(path));
  for (const removed of await removeUnfinished(host, { location, stores, act }, blobs))
    host.log('warning', `removed ${removed}: the machine went down before its files were known to be on the disk`);
}

/** skopeo does not sync what it writes, so only after this may the state call the images present. Source: sync(1), --file-system. */
export async function syncStorage(location: StorageLocation, context: RunContext): Promise<void> {
  if (!existsSync(location.graphroot)) return;
  beginPhase(context, 'syncing', 'writing to disk');
  await context.act('sync-storage', async () => await syncFileSystem(context.host.exec, location.graphroot, dirname(location.graphroot)));
  const failed = new Set(context.record.state.images.filter((image) => image.state === 'failed').map((image) => image.reference));
  context.record.update({ unsynced: [], suspect: context.record.state.suspect.filter((reference) => failed.has(reference)) });
}
