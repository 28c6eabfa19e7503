import { readdir } from 'node:fs/promises';
import { engineUndoSteps } from '../engine/undo.ts';
import { plainAct } from '../host/acts.ts';
import { type Host, hostPath } from '../host/host.ts';
import { readMounts } from '../host/mount-table.ts';
import { holdsMounts, unmount } from '../host/mounts.ts';
import { removeTree } from '../host/remove-tree.ts';
import type { UndoStep } from '../host/undo-step.ts';
import type { PrestageError } from '../model/errors.ts';
import { DISK_BUNDLE_PATH, REGISTRY_IMAGE_PATH, REGISTRY_PATH, STORE_PATH } from '../model/places.ts';
import { type Dangling, findDangling, isNothing } from '../mount/dangling.ts';
import { healDangling } from '../mount/heal-dangling.ts';
import { storeUndoSteps } from '../mount/undo-store.ts';
import { PARTITION_TARGET } from '../partition/open.ts';
import { REGISTRY_NAME } from '../registry/serve/service-plan.ts';
import { registryUndoSteps } from '../registry/serve/service-stop.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import { readLayerRecords, type StorageLocation } from '../storage/records.ts';
import { keepImage } from './keep-image.ts';
import { findImagesToKeep, KEEP_PATH, type KeptImage } from './keep-plan.ts';
import { judgePods, podFacts, podSteps } from './pods.ts';
import { storeUsers } from './store-users.ts';

/** The groups of steps of a release, in their order. */
export type GroupName = 'pods' | 'mirrors' | 'registry' | 'keep' | 'dangling' | 'store' | 'engines' | 'copies' | 'trees' | 'partition';

export interface PlannedStep extends UndoStep {
  /** Called right before the step runs. Returns why the thing must stay for now; undefined if it can be removed. */
  readonly whyLeft?: () => Promise<string | undefined>;
}

export interface UndoGroup {
  readonly name: GroupName;
  readonly steps: readonly PlannedStep[];
  /** Groups without which this one would do harm: if one of their steps fails, this group is skipped. */
  readonly needs: readonly GroupName[];
  /** Each step needs the one before. */
  readonly isChain: boolean;
}

export interface UndoPlan {
  /** Only groups that have something to do. */
  readonly groups: readonly UndoGroup[];
  readonly notices: readonly string[];
  /** Why the release must not start: ERR_STORE_PODS. */
  readonly refusal?: PrestageError;
}

/** Functions that find what each capability has to undo. */
export interface UndoLooks {
  readonly registry: (host: Host) => Promise<readonly UndoStep[]>;
  /** `mirrors`: only files that point to the registry of this node */
  readonly engines: (host: Host, part?: 'mirrors') => Promise<readonly UndoStep[]>;
  /** `force`: a mount that running containers still use is detached, and released with its last user */
  readonly store: (host: Host, options: { readonly force: boolean }) => Promise<readonly UndoStep[]>;
}

/** Steps that remove things once the store is closed and the engines no longer know it. */
const REMOVALS: ReadonlySet<string> = new Set(['remove-store-copies', 'remove-mirror', 'remove-empty-store']);

/** The functions that are used on a node. */
const nodeLooks: UndoLooks = { registry: registryUndoSteps, engines: engineUndoSteps, store: storeUndoSteps };

export interface UndoRequest {
  /** The main store of the engines. */
  readonly location: StorageLocation;
  /** First copy images that running containers use out of the store image. */
  readonly keepImages: boolean;
}

/**
 * Plans what to undo on this node, by looking at the machine and not only at records. So a release that was interrupted can be continued, and a second
 * release finds nothing to undo. Changes nothing.
 * @throws PrestageError ERR_STORAGE
 */
export async function planUndo(host: Host, request: UndoRequest, looks: UndoLooks = nodeLooks): Promise<UndoPlan> {
  const inUse = (await findImagesToKeep(host, request.location)).filter(({ containers }) => containers.join() !== REGISTRY_NAME);
  const kept = request.keepImages ? inUse : [];
  const [registry, mirrors, engines, store, users] = await Promise.all([
    looks.registry(host),
    looks.engines(host, 'mirrors'),
    looks.engines(host),
    // Also if a killed release has copied the images: their containers hold the store until they are restarted.
    looks.store(host, { force: request.keepImages }),
    storeUsers(host),
  ]);
  // Configurations that are removed with the engines' files are checked again right before the empty store is removed.
  const isPinned = users.length > 0 && engines.length === 0;
  const dangling = await danglingAfter(host, request, kept);
  const pods = await podFacts(host, dangling.containers, await runningLayers());
  const verdict = judgePods(pods);
  const groups: readonly UndoGroup[] = [
    { name: 'pods', steps: verdict.kind === 'end' ? podSteps(host, pods.pods) : [], needs: [], isChain: true },
    // The mirrors come before the registry: if a later step failed, they would lead to a registry that is gone, and blocked sources would not be asked.
    { name: 'mirrors', steps: mirrors, needs: ['pods'], isChain: false },
    { name: 'registry', steps: registry, needs: ['pods', 'mirrors'], isChain: false },
    { name: 'keep', steps: kept.map((image) => keepingStep(host, request.location, image)), needs: ['pods'], isChain: false },
    { name: 'dangling', steps: await danglingSteps(host, request, dangling), needs: ['pods', 'registry', 'keep'], isChain: false },
    // Engines may keep pointing to a store that is closed, because the empty one is in its place; they must keep pointing to one that stays open.
    {
      name: 'store',
      steps: store.filter(({ name }) => !REMOVALS.has(name)),
      needs: ['pods', 'registry', 'keep', 'dangling'],
      isChain: true,
    },
    { name: 'engines', steps: without(engines, mirrors), needs: ['pods', 'keep', 'store'], isChain: false },
    {
      name: 'copies',
      steps: store
        .filter(({ name }) => REMOVALS.has(name) && (name !== 'remove-empty-store' || !isPinned))
        .map((step) => guardStep(host, step)),
      needs: ['pods', 'registry', 'keep', 'dangling', 'store', 'engines'],
      isChain: true,
    },
    { name: 'trees', steps: await treeUndoSteps(host), needs: ['pods', 'registry', 'keep', 'store'], isChain: false },
    { name: 'partition', steps: await partitionSteps(host), needs: ['pods', 'store'], isChain: false },
  ];
  return {
    groups: groups.filter(({ steps }) => steps.length > 0),
    ...(verdict.kind === 'refuse' && { refusal: verdict.error }),
    notices: [
      ...(request.keepImages ? inUse.map(describeHolders) : inUse.map(unkept)),
      ...(isPinned ? [`the empty store ${hostPath(host, STORE_PATH)} is kept: ${users.join(', ')} would fail without it`] : []),
    ],
  };
}

function unkept({ id, names, containers }: KeptImage): string {
  return `${containers.join(', ')} runs from ${names[0] ?? id}, which is in the store image: give --keep-images so that it keeps running and can be restarted`;
}

function describeHolders({ containers }: KeptImage): string {
  return `${containers.join(', ')} holds the device of the store image until it is restarted or ends`;
}

function keepingStep(host: Host, location: StorageLocation, image: KeptImage): PlannedStep {
  const text = `copy ${image.names[0] ?? image.id}, which ${image.containers.join(', ')} uses, into ${location.graphroot}`;
  return { name: 'keep-image', text, run: async () => await keepImage(host, location, image) };
}

/** The empty store is removed last of all, and only if nothing needs it. */
function guardStep(host: Host, step: UndoStep): PlannedStep {
  if (step.name !== 'remove-empty-store') return step;
  const whyLeft = async (): Promise<string | undefined> => {
    const users = await storeUsers(host);
    return users.length === 0 ? undefined : `${users.join(', ')} would fail without it`;
  };
  return { ...step, whyLeft };
}

async function storesAfter(host: Host): Promise<readonly string[]> {
  return (await additionalStores(host)).filter((path) => path !== hostPath(host, STORE_PATH));
}

/** The steps that are not among the other steps. CRI-O reloads its configuration only if something changes for it. Pure. */
function without(steps: readonly UndoStep[], others: readonly UndoStep[]): readonly UndoStep[] {
  const done = new Set(others.map(({ text }) => text));
  const rest = steps.filter(({ name, text }) => name !== 'reload-crio' && !done.has(text));
  const reloads = steps.filter(({ name }) => name === 'reload-crio' && (rest.length > 0 || others.length === 0));
  return [...rest, ...reloads];
}

/** What will dangle when the store is closed. */
async function danglingAfter(host: Host, { location }: UndoRequest, kept: readonly KeptImage[]): Promise<Dangling> {
  return withoutRegistry(await findDangling(location, await storesAfter(host), await assumedAfter(host, kept)));
}

/** Healing comes before closing, so that podman works even if a release is interrupted in between. */
async function danglingSteps(host: Host, { location }: UndoRequest, found: Dangling): Promise<readonly PlannedStep[]> {
  if (isNothing(found)) return [];
  const stores = await storesAfter(host);
  const run = async (): Promise<void> => {
    const removed = await healDangling(host, { location, stores, act: plainAct });
    for (const what of removed) host.log('info', `removed ${what}`);
  };
  return [{ name: 'heal-image', text: `remove what depends on the store image: ${(await describe(found)).join(', ')}`, run }];
}

/** The registry's container is removed before. */
function withoutRegistry(found: Dangling): Dangling {
  return { ...found, containers: found.containers.filter(({ names }) => names[0] !== REGISTRY_NAME) };
}

/** What the main store will have received from the store image by then. */
async function assumedAfter(host: Host, kept: readonly KeptImage[]) {
  const wanted = new Set(kept.flatMap(({ layers }) => layers));
  const layers = kept.length === 0 ? [] : await readLayerRecords({ graphroot: hostPath(host, STORE_PATH) });
  return {
    images: kept.map(({ id }) => ({ id, hasData: true })),
    layers: layers.filter(({ id }) => wanted.has(id)),
    containers: [],
  };
}

async function describe({ images, containers, layers }: Dangling): Promise<readonly string[]> {
  const isRunning = await runningLayers();
  return [
    ...containers.map(({ title, layer }) => `container ${title}${isRunning(layer) ? ', which is running' : ''}`),
    ...images.map(({ id, names }) => `image ${names[0] ?? id}`),
    ...layers.map(({ id }) => `layer ${id}`),
  ];
}

async function runningLayers(): Promise<(layer: string) => boolean> {
  const mounted = (await readMounts()).map(({ target }) => target);
  return (layer) => mounted.some((target) => target.endsWith(`/overlay/${layer}/merged`));
}

/**
 * The steps that remove existing trees and copies of the agent. Changes nothing itself.
 * @param takes only these: some of REGISTRY_PATH, REGISTRY_IMAGE_PATH, DISK_BUNDLE_PATH, KEEP_PATH
 */
export async function treeUndoSteps(host: Host, takes?: readonly string[]): Promise<readonly UndoStep[]> {
  const places = [
    { place: REGISTRY_PATH, text: 'remove the files of the registry' },
    { place: REGISTRY_IMAGE_PATH, text: 'remove the image of the registry' },
    { place: DISK_BUNDLE_PATH, text: 'remove the kept parts of the bundle' },
    { place: KEEP_PATH, text: 'remove leftovers of copied images' },
  ];
  const meant = places.flatMap(({ place, text }) => (takes?.includes(place) === false ? [] : [{ path: hostPath(host, place), text }]));
  const there = await Promise.all(meant.map(async ({ path }) => (await readdir(path).catch(() => undefined)) !== undefined));
  return meant
    .filter((_, index) => there[index])
    .map(({ path, text }) => ({ name: 'remove-copies', text: `${text} ${path}`, run: async () => await removeTree(path) }));
}

/** The mount that a killed run may have left. No run is active now, because the lock is held. */
async function partitionSteps(host: Host): Promise<readonly PlannedStep[]> {
  const target = hostPath(host, PARTITION_TARGET);
  if (!(await holdsMounts(target))) return [];
  return [{ name: 'reclaim-mount', text: `unmount the partition at ${target}`, run: async () => await unmount(host, target) }];
}
