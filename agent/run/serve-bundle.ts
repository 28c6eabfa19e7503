import type { StageBundle } from '../bundle/stage-bundle.ts';
import { hostPath } from '../host/host.ts';
import { beginPhase, type Planned, type RunContext } from '../load/context.ts';
import { extractPayload } from '../load/load-payload.ts';
import { errorRecord, messageOf, PrestageError } from '../model/errors.ts';
import { REGISTRY_PATH } from '../model/places.ts';
import { formatReference, parseReference } from '../model/reference.ts';
import type { ImageState } from '../model/run-state.ts';
import { unbindData } from '../mount/bind-data.ts';
import { stopRegistry } from '../registry/serve/service.ts';
import { readRegistryRecord } from '../registry/serve/service-record.ts';
import type { StorageLocation } from '../storage/records.ts';
import { afterDamage, damageError } from '../tree/archive-damage.ts';
import { copyLookaside } from '../tree/lookaside-copy.ts';
import { removeTreeCopy } from '../tree/metadata-copy.ts';
import { readSets } from '../tree/read-sets.ts';
import type { ChosenDelivery } from './choose-delivery.ts';
import { leaveTrees } from './leave.ts';
import { planMirrors, removeMirrors, setMirrors } from './mirrors.ts';
import { registryAddress } from './registry-address.ts';
import { bringRegistryImage } from './registry-image.ts';
import { serveTree } from './serve.ts';
import { type ServedTree, treeOf } from './served-tree.ts';

/**
 * Serves all blobs of a bundle by a registry on this node, from a tree in the bundle or one that is made here, and makes engines ask it before the
 * sources. If the delivery also extracts, the images are loaded while engines can already pull.
 * @throws PrestageError ERR_SETTINGS, ERR_REGISTRY_*, ERR_MIRROR*, ERR_BUNDLE_FILE, ERR_SPACE_REGISTRY, ERR_SYSTEM_FILE; then nothing is served
 */
export async function serveBundle(
  delivery: ChosenDelivery,
  bundle: StageBundle,
  location: StorageLocation,
  context: RunContext,
): Promise<Planned> {
  const { record, isDry, stop } = context;
  const address = registryAddress(context);
  if (isDry) return await planServing(delivery, bundle, location, context);
  try {
    const images = await serve(bundle, location, context);
    record.update({ images });
    context.onEvent({ kind: 'phase', text: `${images.filter(({ state }) => state === 'served').length} images are served at ${address}` });
  } catch (error) {
    if (!delivery.extracts || stop.aborted) throw error;
    record.update({ error: errorRecord(error) });
  }
  if (delivery.extracts) return await extractPayload(await bundle.payload(), location, context);
  return { steps: [], needs: undefined, setup: [] };
}

async function planServing(
  delivery: ChosenDelivery,
  bundle: StageBundle,
  location: StorageLocation,
  context: RunContext,
): Promise<Planned> {
  const what = bundle.registry !== undefined ? bundle.registry.path : `${hostPath(context.host, REGISTRY_PATH)}, made from the payload`;
  const setup = [`serve ${what} at ${registryAddress(context)}`, 'make engines ask that registry before the sources of the images'];
  if (bundle.ocMirror !== undefined) {
    const { damage } = await readSets(bundle.ocMirror.sets, context.stop);
    const error = damageError(damage);
    if (error !== undefined) context.record.update({ error });
  }
  const planned = delivery.extracts ? await extractPayload(await bundle.payload(), location, context) : undefined;
  return { steps: planned?.steps ?? [], needs: planned?.needs, setup };
}

/** @returns the state of each image */
async function serve(bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<ImageState[]> {
  beginPhase(context, 'making-tree', 'making the registry tree');
  const tree = await startServing(bundle, location, context).catch(async (error: unknown) => {
    await stopServing(context);
    throw error;
  });
  await leaveOtherTree(tree, context);
  const reason = `by the registry at ${registryAddress(context)}`;
  return tree.images.map((image) => (image.state === 'pending' ? { ...image, state: 'served', reason } : image));
}

async function startServing(bundle: StageBundle, location: StorageLocation, context: RunContext): Promise<ServedTree> {
  const { record } = context;
  const tree = await treeOf(bundle, context);
  const { damage } = tree;
  record.update({ payload: tree.payload, images: [...tree.images], ...(damage && { error: damage }) });
  try {
    await startRegistry(tree, location, context);
  } catch (error) {
    if (damage === undefined || context.stop.aborted) throw error;
    throw afterDamage(damage, error);
  }
  return tree;
}

async function startRegistry(tree: ServedTree, location: StorageLocation, context: RunContext): Promise<void> {
  const { settings } = context;
  const wanted = settings.registryImage ?? tree.registryImage;
  if (wanted === undefined) throw noRegistryImage(tree.path);
  const reference = parseReference(wanted);
  const image = { name: formatReference(reference), digest: tree.find(reference), tree: tree.path };
  const hasLookaside = await copyLookaside(context.host, tree.signed, context.act);
  const answering = { tree: tree.path, images: tree.answers, hasSignatures: tree.hasSignatures, hasLookaside };
  const mirrors = await planMirrors(tree.sources, answering, context);
  await serveTree({ tree: tree.path, blobs: tree.blobs, ...(await bringRegistryImage(image, location, context)) }, context);
  await setMirrors(mirrors, context);
}

/** Removes what an earlier run has served, or prepared for it, and this run does not serve. */
async function leaveOtherTree({ path }: ServedTree, context: RunContext): Promise<void> {
  const { host, act } = context;
  if (path !== hostPath(host, REGISTRY_PATH)) return await leaveTrees([REGISTRY_PATH], context);
  await unbindData(host, act);
  await removeTreeCopy(host, act);
}

/** If serving fails, stops the registry and releases the partition. A run that was interrupted leaves a running registry as it is. */
async function stopServing(context: RunContext): Promise<void> {
  const { host, act, stop, record } = context;
  if (stop.aborted && (await readRegistryRecord(host)) !== undefined) return;
  record.update({ registry: undefined });
  try {
    await removeMirrors(context);
    await stopRegistry(host, act);
    await unbindData(host, act);
  } catch (error) {
    host.log('warning', `the registry could not be taken down completely: ${messageOf(error)}`);
  }
}

function noRegistryImage(tree: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRY_IMAGE',
    `no image is known that can serve ${tree}: the bundle names none, and registry-image is not set`,
    'Set registry-image to an image of the bundle that contains distribution, such as the component docker-registry of a release',
  );
}
