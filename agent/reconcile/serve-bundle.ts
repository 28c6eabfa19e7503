import { join, relative } from 'node:path';
import { emptyDir, remove } from 'fs-extra/esm';
import type { RegistrySource, StageBundle } from '../bundle/stage-bundle.ts';
import { createLoader } from '../extract/load.ts';
import { linkDirLayout } from '../extract/oci-layout.ts';
import { type ArchivePool, createArchivePool } from '../extract/pool.ts';
import { readImages, type StorageLocation } from '../extract/storage.ts';
import { hostPath } from '../host/host.ts';
import { archivesTree } from '../mirror/archives-tree.ts';
import { layoutTree } from '../mirror/layout-tree.ts';
import { parseMirrorSets, parseSetConfiguration } from '../mirror/mirror-sets.ts';
import type { MadeTree, TreeRequest } from '../mirror/node-tree.ts';
import { unpackOcMirror } from '../mirror/oc-mirror.ts';
import { mirroredImages, mirrorLocations, mirrorSources as ocMirrorSources } from '../mirror/oc-mirror-images.ts';
import { treeImages } from '../mirror/tree-images.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { REGISTRY_PATH } from '../model/places.ts';
import { formatReference, parseReference } from '../model/reference.ts';
import { registryRepository, treeBlobPath } from '../model/registry-path.ts';
import type { ImageState } from '../model/run-state.ts';
import { bindData } from '../mount/bind-data.ts';
import type { MirrorRequest } from '../registry/registries-drop-in.ts';
import { mirrorSources } from '../registry/registries-sources.ts';
import { checkLinks } from '../registry/tree-links.ts';
import { addNotices, type Planned, type RunContext } from './context.ts';
import { WRITERS_LOCK } from './deliver.ts';
import type { ChosenDelivery } from './delivery.ts';
import { extractPayload } from './extract.ts';
import { makeScratch, removeScratch } from './scratch.ts';
import { registryAddress, serveTree, setMirrors } from './serve.ts';

/** A registry tree on this node, and what it is to answer for. */
interface ServedTree {
  /** The directory that holds `docker`. */
  readonly path: string;
  readonly payload: string;
  readonly sources: MirrorRequest['sources'];
  readonly images: readonly ImageState[];
  readonly registryImage: string | undefined;
}

/**
 * Serves all blobs of a bundle by a registry on this node, from a tree that lies in the bundle or is made here, and puts it in front of the
 * sources. Where the delivery extracts as well, the images are loaded while engines can pull already.
 * @throws PrestageError ERR_REGISTRY_*, ERR_MIRROR*, ERR_BUNDLE_FILE, ERR_SPACE_REGISTRY, ERR_SYSTEM_FILE
 */
export async function serveBundle(
  delivery: ChosenDelivery,
  bundle: StageBundle,
  location: StorageLocation,
  context: RunContext,
): Promise<Planned> {
  const { store, settings, isDry } = context;
  if (isDry) return await planServing(delivery, bundle, location, context);
  store.update({ phase: 'making-tree' });
  context.onEvent({ kind: 'phase', text: 'making the tree of the registry' });
  const tree = await treeOf(bundle, context);
  store.update({ payload: tree.payload, images: [...tree.images] });
  try {
    const image = settings.registryImage ?? tree.registryImage;
    if (image === undefined) throw noRegistryImage(tree.path);
    await loadRegistryImage(image, tree.path, location, context);
    await serveTree({ tree: tree.path, image }, context);
    await setMirrors(tree.sources, context);
  } catch (error) {
    if (!delivery.extracts) throw error;
    store.update({ error: errorRecord(error) });
  }
  if (delivery.extracts) return await extractPayload(await bundle.payload(), location, context);
  const { length } = tree.images;
  context.onEvent({ kind: 'planned', images: length, alreadyDone: length, toLoad: 0, bytes: 0 });
  return { steps: [], needs: undefined, setup: [] };
}

async function planServing(
  delivery: ChosenDelivery,
  bundle: StageBundle,
  location: StorageLocation,
  context: RunContext,
): Promise<Planned> {
  const what = bundle.registry !== undefined ? bundle.registry.path : `${hostPath(context.host, REGISTRY_PATH)}, made of the payload`;
  const setup = [`serve ${what} at ${registryAddress(context)}`, 'put that registry in front of the sources of the images'];
  const planned = delivery.extracts ? await extractPayload(await bundle.payload(), location, context) : undefined;
  return { steps: planned?.steps ?? [], needs: planned?.needs, setup };
}

async function treeOf(bundle: StageBundle, context: RunContext): Promise<ServedTree> {
  if (bundle.registry !== undefined) return await treeInBundle(bundle, bundle.registry, context);
  return bundle.ocMirror.length > 0 ? await treeOfMirror(bundle, context) : await treeOfPayload(bundle, context);
}

/** The factory has made the tree: it is served as it lies there. Blobs are checked by those who pull them; links have no digest of their own. */
async function treeInBundle(bundle: StageBundle, registry: RegistrySource, context: RunContext): Promise<ServedTree> {
  const { host, step } = context;
  const data = await bindData(host, bundle.directory, step);
  const path = join(data, relative(bundle.directory, registry.path));
  await checkLinks(path, registry.files);
  const images = bundle.images ?? [];
  return {
    path,
    payload: 'registry',
    sources: sourcesOf(images, context),
    images: images.map(({ reference, names, manifestDigest }) => served(reference, { names, digests: [manifestDigest] }, context)),
    registryImage: registry.registryImage,
  };
}

async function treeOfMirror(bundle: StageBundle, context: RunContext): Promise<ServedTree> {
  const { host, step, stop } = context;
  const path = hostPath(host, REGISTRY_PATH);
  const made = await unpackOcMirror(host, { archives: bundle.ocMirror, to: path, step, signal: stop });
  const { idms, itms, isc } = made.resources;
  const where = 'working-dir/cluster-resources';
  const sets = parseMirrorSets([...idms, ...itms].map((text) => ({ text, where })));
  const configurations = isc.map((text) => parseSetConfiguration({ text, where: 'the ImageSetConfiguration' }));
  const inTree = await treeImages(path);
  const found = ocMirrorSources(
    sets,
    configurations,
    inTree.map((image) => image.repository),
  );
  addNotices(context, [...found.notices, ...made.faults.map((fault) => fault.message)]);
  const lacking = Map.groupBy(made.missing, (part) => part.image);
  const images = mirroredImages(inTree, found.sources).flatMap(({ sources, tags, digest }) =>
    sources.map((source) => served(`${source}@${digest}`, { names: tags.map((tag) => `${source}:${tag}`), digests: [digest] }, context)),
  );
  return {
    path,
    payload: 'oc-mirror',
    sources: mirrorLocations(found.sources, [registryAddress(context)]),
    images: [...images, ...[...lacking].map(([image, parts]) => unserved(image, lacks(image, parts)))],
    registryImage: undefined,
  };
}

function lacks(image: string, parts: readonly { readonly part: string; readonly digest: string; readonly from: string }[]): ErrorRecord {
  const named = parts.map(({ part, digest }) => `${part} ${digest}`).join(', ');
  return errorRecord(
    new PrestageError(
      'ERR_MIRROR_MISSING',
      `${image} is not served: the archives lack ${named}`,
      `Bring ${parts[0]?.from ?? 'all archives'}`,
    ),
  );
}

async function treeOfPayload(bundle: StageBundle, context: RunContext): Promise<ServedTree> {
  const { host, step, stop } = context;
  const payload = await bundle.payload();
  addNotices(context, payload.notices);
  const path = hostPath(host, REGISTRY_PATH);
  await using pool = createArchivePool({ size: host.cores, log: host.log });
  const made = await makeTreeOf(payload.images, { to: path, pool, parallel: host.cores, step, signal: stop }, context);
  const refused = [...payload.refused, ...made.refused];
  const names = new Set(refused.map(({ reference }) => reference));
  const images = payload.images.filter(({ reference }) => !names.has(reference));
  return {
    path,
    payload: payload.kind,
    sources: sourcesOf(images, context),
    images: [
      ...images.map(({ reference, names: all, digest }) =>
        served(reference, { names: all, digests: digest === undefined ? [] : [digest] }, context),
      ),
      ...refused.map(({ reference, error }) => unserved(reference, error)),
    ],
    registryImage: bundle.store?.registryImage,
  };
}

type MakeRequest = Omit<TreeRequest<never>, 'images'> & { readonly pool: ArchivePool };

async function makeTreeOf(
  images: Awaited<ReturnType<StageBundle['payload']>>['images'],
  request: MakeRequest,
  { host }: RunContext,
): Promise<MadeTree> {
  const layouts = images.filter((image) => image.kind === 'layout');
  if (layouts.length > 0) return await layoutTree(host, { ...request, images: layouts });
  return await archivesTree(host, { ...request, images: images.filter((image) => image.kind === 'archive') });
}

function sourcesOf(images: readonly { readonly names: readonly string[] }[], context: RunContext): MirrorRequest['sources'] {
  return mirrorSources(
    images.flatMap((image) => image.names),
    [registryAddress(context)],
  );
}

function served(
  reference: string,
  known: Pick<ImageState, 'digests'> & { readonly names: readonly string[] },
  context: RunContext,
): ImageState {
  return {
    reference,
    names: [...known.names],
    digests: known.digests,
    state: 'served',
    reason: `by the registry at ${registryAddress(context)}`,
  };
}

function unserved(reference: string, error: ErrorRecord): ImageState {
  return { reference, names: [], digests: [], state: 'failed', reason: error.message, error };
}

/** podman runs the registry's image out of the storage of this node: where it is not there yet, it comes out of the tree. */
async function loadRegistryImage(image: string, tree: string, location: StorageLocation, context: RunContext): Promise<void> {
  const { host, step, kill } = context;
  const name = formatReference(parseReference(image));
  if ((await readImages(location)).some((stored) => stored.names.includes(name))) return;
  const reference = parseReference(image);
  const repository = registryRepository(reference);
  const digest = (await treeImages(tree)).find(
    (one) =>
      (one.repository === repository || one.repository === reference.repository) &&
      (reference.digest === undefined ? one.tags.includes(reference.tag ?? 'latest') : one.digest === reference.digest),
  )?.digest;
  if (digest === undefined) throw notInTree(image, tree);
  const scratch = await makeScratch(hostPath(host, '/run/prestage-agent/registry-image'));
  try {
    const directory = join(scratch.path, 'image');
    await emptyDir(directory);
    await linkDirLayout(tree, digest, directory, (root, blob) => join(root, treeBlobPath(blob)));
    const loader = createLoader({
      exec: host.exec,
      location,
      temporaryDirectory: scratch.temporary,
      writersLock: hostPath(host, WRITERS_LOCK),
      signal: kill,
    });
    await step('load-registry-image', async () => await loader.load(`dir:${directory}`, name));
    await remove(directory);
  } finally {
    await removeScratch(scratch.path);
  }
}

function noRegistryImage(tree: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRY_IMAGE',
    `nothing says which image serves ${tree}: the bundle names none, and registry-image is not set`,
    'Set registry-image to an image of the bundle that carries distribution, such as the component docker-registry of a release',
  );
}

function notInTree(image: string, tree: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRY_IMAGE',
    `the registry is to run ${image}, which is neither in the storage of this node nor in ${tree}`,
    'Put that image into the bundle, or set registry-image to one that is there',
  );
}
