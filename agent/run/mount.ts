import type { StoreBundle } from '../bundle/stage-bundle.ts';
import type { MirrorRequest } from '../engine/registries-drop-in.ts';
import { mirrorSources } from '../engine/registries-sources.ts';
import { setUpEngines } from '../engine/set-up.ts';
import { unseenExchange } from '../engine/unseen-exchange.ts';
import { createArchivePool } from '../extract/pool.ts';
import { hostPath } from '../host/host.ts';
import { addNotices, beginPhase, type Planned, type RunContext } from '../load/context.ts';
import type { BundleImage } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { MIRROR_PATH, REGISTRY_IMAGE_PATH, REGISTRY_PATH, STORE_PATH } from '../model/places.ts';
import { closeStore } from '../mount/close-store.ts';
import { ensureEmptyStore } from '../mount/empty-store.ts';
import { healDangling } from '../mount/heal-dangling.ts';
import { isAsWanted, type OpenedStore, openStore } from '../mount/open-store.ts';
import { choosePlacements } from '../mount/placement.ts';
import { startCheck } from '../mount/start-check.ts';
import { readOpenStore } from '../mount/store-record.ts';
import { chooseTrust, verityFacts } from '../mount/trust.ts';
import { stopRegistry } from '../registry/serve/service.ts';
import { hasSigstore } from '../signatures/bundle-signatures.ts';
import { additionalStores } from '../storage/additional-stores.ts';
import type { StorageLocation } from '../storage/records.ts';
import { copyLookaside, removeLookaside } from '../tree/lookaside-copy.ts';
import { copyMetadataTree, hideFromTree, removeTreeCopy } from '../tree/metadata-copy.ts';
import { forgetBundle, keepBundle } from './disk-bundle.ts';
import { leaveTrees } from './leave.ts';
import { type PlannedMirrors, planMirrors, removeMirrors } from './mirrors.ts';
import { assertIntact, imagesOf, probeOpened, serveOpened } from './opened-store.ts';
import { registryAddress } from './registry-address.ts';
import { setStoreMirrors } from './store-mirrors.ts';
import { bindSystems, isAnswered, planSystems, type Systems, systemsState, unbindSystems, unstoredState } from './systems.ts';

/** The result for a store image: it is mounted, or the engines of this node do not accept it. */
export type MountResult = { readonly kind: 'mounted'; readonly planned: Planned } | { readonly kind: 'refused'; readonly reason: string };

/**
 * Mounts the store image of the stage, makes the engines see it, and serves its metadata. Images are then present and can be pulled although
 * nothing was unpacked. Work that does not need the store image is done while it is opened; engines get the mirrors once the registry answers.
 * @throws PrestageError ERR_STORE_*, ERR_TRUST, ERR_SPACE_*, ERR_BUNDLE_FILE, ERR_SYSTEM_FILE
 */
export async function mountStore(bundle: StoreBundle, location: StorageLocation, context: RunContext): Promise<MountResult> {
  const { host, record, act, settings, stage } = context;
  record.update({ payload: 'store' });
  if (context.isDry) return { kind: 'mounted', planned: await planMount(bundle, context) };
  beginPhase(context, 'opening-store', 'opening the store image');
  const image = settings.registryImage ?? bundle.store.registryImage;
  const sources = image === undefined ? undefined : sourcesOf(bundle, context);
  const systems = await planSystems(bundle, wantedStore(bundle, context).placement, context);
  // Before anything of this bundle is set up: a store that has to stay keeps the mirror that belongs to it.
  await closeOther(bundle, context);
  await ensureEmptyStore(host, act);
  const [opened, mirrors] = await allOrFirstFault([
    openImage(bundle, context),
    sources === undefined ? undefined : copyAndPlan(bundle, { sources, systems }, context),
    setUpEngines(host, { stage, act }).then(({ notices }) => addNotices(context, notices)),
  ]);
  addNotices(context, opened.notices);
  addNotices(context, await unseenExchange(host, opened));
  const isStored = ({ reference }: BundleImage): boolean => !bundle.store.unstored.includes(reference);
  const stored = await imagesOf(bundle.images.filter(isStored), opened);
  const lacking = stored.filter(({ state }) => state === 'failed');
  if (lacking.length > 0) {
    if (opened.verified === 'pending') await assertIntact(opened, 'lacks images', context);
    if (image !== undefined) await hideFromTree(host, lacking);
  }
  const isOnDisk = opened.placement === 'disk';
  // Operating systems that are incomplete are neither kept nor served.
  if (isOnDisk) await keepBundle({ ...bundle, store: { ...bundle.store, osTree: systems.tree } }, context);
  const blobs = image === undefined ? undefined : await bindSystems(systems, { directory: bundle.directory, isOnDisk }, context);
  const serving = image === undefined ? await probeOpened(opened, context) : await serveOpened({ image, blobs }, opened, context);
  if (serving.kind === 'refused') return serving;
  const isServing = serving.kind === 'served' && mirrors !== undefined;
  if (isServing) await setStoreMirrors(mirrors, context);
  else await leaveMirror(context);
  if (blobs === undefined || !isServing) await unbindSystems(opened.placement, context);
  record.update({
    osImage: systemsState(systems, isServing, context),
    store: {
      path: opened.path,
      image: opened.image,
      sha256: opened.sha256,
      trust: opened.trust,
      trustReason: opened.trustReason,
      placement: opened.placement,
      verified: opened.verified,
    },
  });
  // Records that need an earlier store, and that this one does not support, would make every engine command fail.
  const removed = await healDangling(host, { location, stores: await additionalStores(host), act });
  addNotices(
    context,
    removed.map((what) => `removed ${what}: it was based on a store image that is gone`),
  );
  const states = new Map(stored.map((one) => [one.reference, one]));
  const images = bundle.images.flatMap((one) => states.get(one.reference) ?? unstoredState(systems, one, isServing, context));
  record.update({ images });
  context.onEvent({ kind: 'planned', images: images.length, alreadyDone: images.length, toLoad: 0, bytes: 0 });
  if (!isOnDisk) await forgetBundle(context);
  await leaveTrees([REGISTRY_PATH, REGISTRY_IMAGE_PATH], context);
  addNotices(context, await startCheck(host, act));
  return { kind: 'mounted', planned: { steps: [], needs: undefined, setup: [] } };
}

/** The signatures that the mirror can show decide which sources get it. */
async function copyAndPlan(
  bundle: StoreBundle,
  { sources, systems }: { readonly sources: MirrorRequest['sources']; readonly systems: Systems },
  context: RunContext,
): Promise<PlannedMirrors> {
  const { host, act, stop } = context;
  const { path: from, files } = bundle.store.mirror;
  await copyMetadataTree(host, { from, files, systems: systems.tree, act, signal: stop });
  const answered = bundle.images.filter(isAnswered(systems));
  const images = answered.map(({ names, manifestDigest }) => ({ names, digest: manifestDigest }));
  const signed = answered.map((image) => ({ names: image.names, signed: { bundle: bundle.directory, image } }));
  const hasLookaside = await copyLookaside(host, signed, act);
  const answering = { tree: hostPath(host, MIRROR_PATH), images, hasSignatures: answered.some(hasSigstore), hasLookaside };
  return await planMirrors(sources, answering, context);
}

function sourcesOf(bundle: StoreBundle, context: RunContext): MirrorRequest['sources'] {
  return mirrorSources(
    bundle.images.flatMap((image) => image.names),
    [registryAddress(context)],
  );
}

/** No registry answers: removes the mirrors and the files that it would serve. */
async function leaveMirror(context: RunContext): Promise<void> {
  await removeMirrors(context);
  await stopRegistry(context.host, context.act);
  await removeTreeCopy(context.host, context.act);
  await removeLookaside(context.host, context.act);
}

/** What a run would do, line by line. */
async function planMount(bundle: StoreBundle, context: RunContext): Promise<Planned> {
  const { host, settings, stage } = context;
  const [placement] = choosePlacements(settings.placement, { stage, isMedium: isOnMedium(context) });
  const facts = { ...(await verityFacts(host)), hasHashTree: true, isCopiedNow: placement.kind !== 'partition' };
  const trust = chooseTrust(settings.trust, facts);
  const { image, registryImage } = bundle.store;
  const registry = settings.registryImage ?? registryImage;
  const setup = [
    `mount ${image.path} (${formatBytes(image.sizeBytes)}) at ${hostPath(host, STORE_PATH)}: ${placement.kind} (${placement.reason}), ${trust.kind} (${trust.reason})`,
    `make its ${bundle.images.length} images visible to the engines`,
    registry === undefined
      ? 'start no registry, because the bundle names no image for one: pulls go to the sources'
      : `serve their manifests at ${registryAddress(context)} with ${registry}, as a mirror of the sources`,
  ];
  return { steps: [], needs: undefined, setup };
}

/** Nothing is installed to a read-only medium. */
function isOnMedium({ record }: RunContext): boolean {
  return record.state.source?.fileSystem === 'iso9660';
}

function wantedStore(bundle: StoreBundle, context: RunContext) {
  const { settings, record } = context;
  return {
    image: bundle.store.image,
    isMedium: isOnMedium(context),
    trust: settings.trust,
    memoryReserveBytes: settings.memoryReserveBytes,
    placement: record.state.source?.kind === 'disk' ? ('disk' as const) : settings.placement,
  };
}

/** Closes the store of another bundle, or one with another placement or trust. @throws PrestageError of closeStore */
async function closeOther(bundle: StoreBundle, context: RunContext): Promise<void> {
  const { host, act } = context;
  const before = await readOpenStore(host);
  if (before === undefined || isAsWanted(before, wantedStore(bundle, context))) return;
  // The registry runs from the store and would keep it open. The mirrors stay: if the store cannot be closed, the registry is started again.
  await stopRegistry(host, act);
  await closeStore(host, { act, force: false });
}

async function openImage(bundle: StoreBundle, context: RunContext): Promise<OpenedStore> {
  const { host, act } = context;
  await using pool = createArchivePool({ size: host.cores, log: host.log });
  return await openStore(host, {
    ...wantedStore(bundle, context),
    bundleDirectory: bundle.directory,
    stage: context.stage,
    act,
    signal: context.stop,
    pool,
  });
}

/** Waits for all even if one fails, so that nothing still runs while the work is undone. */
async function allOrFirstFault<const T extends readonly unknown[]>(work: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return await Promise.all(work);
}
