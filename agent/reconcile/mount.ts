import type { StoreBundle } from '../bundle/stage-bundle.ts';
import { probeEngines } from '../engine/probe.ts';
import { setUpEngines } from '../engine/set-up.ts';
import { unseenExchange } from '../engine/unseen-exchange.ts';
import { additionalStores } from '../extract/additional-stores.ts';
import { createArchivePool } from '../extract/pool.ts';
import { inspectRecords, type StorageLocation } from '../extract/storage.ts';
import { hostPath } from '../host/host.ts';
import type { BundleImage } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { MIRROR_PATH, STORE_PATH } from '../model/places.ts';
import type { ImageState } from '../model/run-state.ts';
import { dropDamagedCopy, hashStore, recordIntact } from '../mount/check-store.ts';
import { findCheckTarget } from '../mount/check-target.ts';
import { closeStore } from '../mount/close-store.ts';
import { ensureEmptyStore } from '../mount/empty-store.ts';
import { healDangling } from '../mount/heal-dangling.ts';
import { isAsWanted, type OpenedStore, openStore } from '../mount/open-store.ts';
import { choosePlacement } from '../mount/placement.ts';
import { digestFault } from '../mount/store-image.ts';
import { readOpenStore } from '../mount/store-record.ts';
import { chooseTrust, verityFacts } from '../mount/trust.ts';
import { copyMirror, hideFromMirror } from '../registry/mirror-copy.ts';
import { mirrorSources } from '../registry/registries-sources.ts';
import { stopRegistry } from '../registry/service.ts';
import { addNotices, type Planned, type RunContext } from './context.ts';
import { forgetBundle, keepBundle } from './disk-bundle.ts';
import { isPresent } from './plan.ts';
import { registryAddress, serveTree } from './serve.ts';
import { startCheck } from './start-check.ts';
import { setStoreMirrors } from './store-mirrors.ts';

/** What came of a store image: it is mounted, or the engines of this node do not take it. */
export type MountResult = { readonly kind: 'mounted'; readonly planned: Planned } | { readonly kind: 'refused'; readonly reason: string };

/**
 * Mounts the store image of the stage, has the engines see it, and serves its metadata, so that images are there and can be pulled though
 * nothing was unpacked. What needs not wait for the store image is done while it is opened.
 * @throws PrestageError ERR_STORE_*, ERR_TRUST, ERR_SPACE_*, ERR_BUNDLE_FILE, ERR_SYSTEM_FILE
 */
export async function mountStore(bundle: StoreBundle, location: StorageLocation, context: RunContext): Promise<MountResult> {
  const { host, store, step, settings, stage } = context;
  store.update({ payload: 'store', phase: 'opening-store' });
  if (context.isDry) return { kind: 'mounted', planned: await planMount(bundle, context) };
  context.onEvent({ kind: 'phase', text: 'opening the store image' });
  // Before anything of this bundle is set up: a store that has to stay keeps the mirror that belongs to it.
  await closeOther(bundle, context);
  await ensureEmptyStore(host, step);
  const sources = mirrorSources(
    bundle.images.flatMap((image) => image.names),
    [registryAddress(context)],
  );
  const [opened] = await allOrFirstFault([
    openImage(bundle, context),
    copyMirror(host, { from: bundle.store.mirror.path, files: bundle.store.mirror.files, step, signal: context.stop }),
    // One after the other: both keep the record of what was changed.
    setUpEngines(host, { stage, step })
      .then(({ notices }) => addNotices(context, notices))
      .then(async () => await setStoreMirrors(sources, context)),
  ]);
  addNotices(context, await unseenExchange(host, opened));
  const images = await imagesOf(bundle.images, opened);
  const lacking = images.filter(({ state }) => state === 'failed');
  if (lacking.length > 0) {
    if (opened.verified === 'pending') await assertIntact(opened, 'lacks images', context);
    await hideFromMirror(host, lacking);
  }
  const image = settings.registryImage ?? bundle.store.registryImage;
  const refusal = image === undefined ? await probed(opened, context) : await served(image, opened, context);
  if (refusal !== undefined) {
    await closeStore(host, { step, force: false });
    return { kind: 'refused', reason: refusal };
  }
  store.update({
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
  // Records that an earlier store has left, and that this one does not carry, would make every engine command fail.
  const removed = await healDangling(host, { location, stores: await additionalStores(host), step });
  addNotices(
    context,
    removed.map((what) => `removed ${what}: no store has what it stood on`),
  );
  store.update({ images: [...images] });
  context.onEvent({ kind: 'planned', images: images.length, alreadyDone: images.length, toLoad: 0, bytes: 0 });
  await (opened.placement === 'disk' ? keepBundle(bundle, context) : forgetBundle(context));
  addNotices(context, await startCheck(host, step));
  return { kind: 'mounted', planned: { steps: [], needs: undefined, setup: [] } };
}

/** What a run would do, in lines. */
async function planMount(bundle: StoreBundle, context: RunContext): Promise<Planned> {
  const { host, settings, stage } = context;
  const placement = choosePlacement(settings.placement, { stage });
  const facts = { ...(await verityFacts(host)), hasHashTree: true, isCopiedNow: placement.kind !== 'partition' };
  const trust = chooseTrust(settings.trust, facts);
  const { image, registryImage } = bundle.store;
  const registry = settings.registryImage ?? registryImage;
  const setup = [
    `mount ${image.path} (${formatBytes(image.sizeBytes)}) at ${hostPath(host, STORE_PATH)}: ${placement.kind} (${placement.reason}), ${trust.kind} (${trust.reason})`,
    `have the engines see its ${bundle.images.length} images`,
    registry === undefined
      ? 'no registry: the bundle names no image for one, so that what is pulled is asked for at the source'
      : `serve their manifests at ${registryAddress(context)} by ${registry}, in front of the sources`,
  ];
  return { steps: [], needs: undefined, setup };
}

function wantedStore(bundle: StoreBundle, { settings, store }: RunContext) {
  return {
    image: bundle.store.image,
    trust: settings.trust,
    placement: store.state.source?.kind === 'disk' ? ('disk' as const) : settings.placement,
  };
}

/** Closes the store of another bundle, or one that is placed or trusted otherwise. @throws PrestageError of closeStore */
async function closeOther(bundle: StoreBundle, context: RunContext): Promise<void> {
  const { host, step } = context;
  const before = await readOpenStore(host);
  if (before === undefined || isAsWanted(before, wantedStore(bundle, context))) return;
  // The registry runs from the store: it would keep it from being closed.
  await stopRegistry(host, step);
  await closeStore(host, { step, force: false });
}

async function openImage(bundle: StoreBundle, context: RunContext): Promise<OpenedStore> {
  const { host, step } = context;
  await using pool = createArchivePool({ size: host.cores, log: host.log });
  return await openStore(host, {
    ...wantedStore(bundle, context),
    bundleDirectory: bundle.directory,
    stage: context.stage,
    step,
    signal: context.stop,
    pool,
  });
}

/**
 * A store that lacks images may be a damaged one, whose records make every engine command fail: that is not left to the check behind the boot.
 * @param fault why it is looked at; it continues the path of the image
 * @throws PrestageError ERR_STORE_DIGEST, with the store closed
 */
async function assertIntact({ image }: OpenedStore, fault: string, { host, step, stop }: RunContext): Promise<void> {
  const target = await findCheckTarget(host);
  if (target === undefined) return;
  const found = await hashStore(host, target, stop);
  if (found.kind === 'intact') return await recordIntact(host, target, step);
  await dropDamagedCopy(target, step);
  await stopRegistry(host, step);
  await closeStore(host, { step, force: true });
  throw digestFault(image, `${fault}, and it ${found.fault}`);
}

/** Why the engines do not take the store; undefined where they do. */
async function probed(opened: OpenedStore, { host, stop }: RunContext): Promise<string | undefined> {
  const { accepted, reason } = await probeEngines(host, opened.path, { signal: stop });
  return accepted ? undefined : reason;
}

/**
 * The registry is started from an image in the store, so it is a probe, too: the engines are asked only where it does not start.
 * @throws PrestageError of assertIntact
 */
async function served(image: string, opened: OpenedStore, context: RunContext): Promise<string | undefined> {
  try {
    await serveTree({ tree: hostPath(context.host, MIRROR_PATH), image, imageStore: opened.path }, context);
    return undefined;
  } catch (error) {
    const refusal = await probed(opened, context);
    if (refusal !== undefined) return refusal;
    // A block that dm-verity refuses ends the program that needs it, and no check goes on behind the boot.
    if (opened.verified === 'kernel') await assertIntact(opened, 'has a registry that does not start', context);
    context.store.update({ error: errorRecord(error) });
    return undefined;
  }
}

/** The images of the stage, as the mounted store has them. */
async function imagesOf(images: readonly BundleImage[], opened: OpenedStore): Promise<readonly ImageState[]> {
  const contents = await inspectRecords({ graphroot: opened.path });
  return images.map(({ reference, names, manifestDigest }): ImageState => {
    const image = { reference, names: [...names], digests: [manifestDigest] };
    if (isPresent(image, contents)) return { ...image, state: 'present', reason: 'it is in the mounted store' };
    const error = new PrestageError(
      'ERR_STORE_IMAGE',
      `the store image does not have ${reference} under all its names with the digest ${manifestDigest}`,
      'Build the bundle again at the factory, and verify it there',
    );
    return { ...image, state: 'failed', reason: error.message, error: errorRecord(error) };
  });
}

/** Waits for all, also where one fails: nothing goes on behind the back of what undoes it. */
async function allOrFirstFault<const T extends readonly Promise<unknown>[]>(work: T): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(work);
  return await Promise.all(work);
}
