import { existsSync } from 'node:fs';
import { crioPid } from '../engine/crio-process.ts';
import { engineUndoSteps } from '../engine/undo.ts';
import { hostPath } from '../host/host.ts';
import type { UndoStep } from '../host/undo-step.ts';
import { addNotices, type RunContext } from '../load/context.ts';
import { PrestageError } from '../model/errors.ts';
import { DISK_BUNDLE_PATH, REGISTRY_IMAGE_PATH, REGISTRY_PATH, STORE_PATH } from '../model/places.ts';
import { unbindData } from '../mount/bind-data.ts';
import { healDangling } from '../mount/heal-dangling.ts';
import { mountsAt } from '../mount/mounted.ts';
import { startCheck } from '../mount/start-check.ts';
import { storeUndoSteps } from '../mount/undo-store.ts';
import { stopRegistry } from '../registry/serve/service.ts';
import { REGISTRY_NAME } from '../registry/serve/service-plan.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import type { StorageLocation } from '../storage/records.ts';
import { removeLookaside } from '../tree/lookaside-copy.ts';
import { removeTreeCopy } from '../tree/metadata-copy.ts';
import { findImagesToKeep } from '../undo/keep-plan.ts';
import { treeUndoSteps } from '../undo/plan.ts';
import { storeUsers } from '../undo/store-users.ts';
import { removeMirrors } from './mirrors.ts';

/** Whether it was undone, or stays for now because it is in use. */
export type Left = 'gone' | 'stays';

export interface LeaveRequest {
  readonly location: StorageLocation;
  /**
   * The bundle has a store image that could not be used, and the next run tries it again: the engines keep their configuration for the store, and an
   * empty store stands in its place.
   */
  readonly comesBack: boolean;
}

/**
 * Undoes what earlier runs have set up, before images are loaded into the node's own storage: mirrors, registry, store image, trees and copies. It
 * comes first because the images need the room; until they are loaded, engines ask the sources.
 * @throws PrestageError ERR_STORE_DANGLING, ERR_STORAGE, ERR_REGISTRY_START
 */
export async function leaveAll(request: LeaveRequest, context: RunContext): Promise<void> {
  const { host, act } = context;
  await removeMirrors(context);
  await stopRegistry(host, act);
  if ((await leaveStore(request, context)) === 'gone') await unbindData(host, act);
  await removeTreeCopy(host, act);
  await removeLookaside(host, act);
  await leaveTrees([REGISTRY_PATH, REGISTRY_IMAGE_PATH], context);
}

/**
 * Undoes what earlier runs have set up to mount a store image, and frees the memory and the disk space that it took. A store that running containers
 * use stays open, and a notice says so.
 * @throws PrestageError ERR_STORE_DANGLING, ERR_STORAGE, ERR_REGISTRY_START
 */
export async function leaveStore({ location, comesBack }: LeaveRequest, context: RunContext): Promise<Left> {
  const { host, act } = context;
  const path = hostPath(host, STORE_PATH);
  const isOpen = (await mountsAt(path)).length > 0;
  if (isOpen) {
    const users = (await findImagesToKeep(host, location)).flatMap(({ containers }) => containers).filter((name) => name !== REGISTRY_NAME);
    if (users.length > 0) return staysFor(users.join(', '), context);
    // The registry runs from the store.
    await removeMirrors(context);
    await stopRegistry(host, act);
  }
  // Without it no store was ever opened here.
  if (existsSync(path)) {
    // Before the store is closed: a run that is killed in between leaves engines that work.
    const stores = (await additionalStores(host)).filter((store) => store !== path);
    const removed = await healDangling(host, { location, stores, act });
    addNotices(
      context,
      removed.map((what) => `removed ${what}: it was based on a store image that is no longer used`),
    );
  }
  const steps = await storeUndoSteps(host);
  const named = (names: ReadonlySet<string>): readonly UndoStep[] => steps.filter(({ name }) => names.has(name));
  try {
    // If no store is open, a registry serves what is bound there.
    const closing = steps.filter(({ name }) => !COPIES.has(name) && !EMPTY_STORE.has(name) && (isOpen || name !== 'unmount-data'));
    await runSteps(closing, context);
  } catch (error) {
    if (!(error instanceof PrestageError) || error.code !== 'ERR_STORE_BUSY') throw error;
    // The failed attempt has ended the check of the store.
    addNotices(context, await startCheck(host, act));
    return staysFor(error.message, context);
  }
  if (!comesBack) await runSteps(await engineUndoSteps(host, 'store'), context);
  // A registry without a store may serve what lies there.
  await runSteps(
    named(COPIES).filter(({ name }) => isOpen || name !== 'remove-mirror'),
    context,
  );
  await leaveTrees([DISK_BUNDLE_PATH], context);
  if (!comesBack && !(await isEmptyStoreUsed(context))) await runSteps(named(EMPTY_STORE), context);
  return 'gone';
}

const COPIES: ReadonlySet<string> = new Set(['remove-store-copies', 'remove-mirror']);
const EMPTY_STORE: ReadonlySet<string> = new Set(['remove-empty-store']);

/** A running CRI-O has read the configuration for the store when it was started. */
async function isEmptyStoreUsed({ host }: RunContext): Promise<boolean> {
  return crioPid(host) !== undefined || (await storeUsers(host)).length > 0;
}

/** Removes trees and copies of earlier deliveries. */
export async function leaveTrees(places: readonly string[], context: RunContext): Promise<void> {
  await runSteps(await treeUndoSteps(context.host, places), context);
}

function staysFor(users: string, context: RunContext): Left {
  const notice = `the open store image is kept, because it is in use: ${users}; it is closed at the next boot, or, once nothing uses it, by: prestage-agent release`;
  context.host.log('warning', notice);
  addNotices(context, [notice]);
  return 'stays';
}

async function runSteps(steps: readonly UndoStep[], { host, act }: RunContext): Promise<void> {
  for (const { name, text, run } of steps) {
    host.log('info', `no longer used: ${text}`);
    await act(name, run);
  }
}
