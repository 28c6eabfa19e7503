import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { RegistrySource, StageBundle } from '../bundle/stage-bundle.ts';
import type { MirrorRequest } from '../engine/registries-drop-in.ts';
import { mirrorSources } from '../engine/registries-sources.ts';
import { readText } from '../extract/archives.ts';
import { createArchivePool } from '../extract/pool.ts';
import { hostPath } from '../host/host.ts';
import { addNotices, type RunContext } from '../load/context.ts';
import type { Digest } from '../model/digest.ts';
import { type ErrorRecord, errorRecord, messageOf, PrestageError } from '../model/errors.ts';
import { REGISTRY_PATH } from '../model/places.ts';
import { nameOf, type Reference } from '../model/reference.ts';
import { registryRepository, treeBlobPath } from '../model/registry-path.ts';
import type { ImageState } from '../model/run-state.ts';
import { bindData } from '../mount/bind-data.ts';
import { hasSigstore } from '../signatures/bundle-signatures.ts';
import { addSignatures } from '../tree/add-signatures.ts';
import { absentArchives, damageError } from '../tree/archive-damage.ts';
import type { OcMirrorFolder } from '../tree/archive-sets.ts';
import { archivesTree } from '../tree/archives-tree.ts';
import { layoutTree } from '../tree/layout-tree.ts';
import type { SignedSource } from '../tree/lookaside-copy.ts';
import { hideFromTree } from '../tree/metadata-copy.ts';
import { parseMirrorSets, parseSetConfiguration, type SetConfiguration } from '../tree/mirror-sets.ts';
import type { MadeTree, TreeRequest } from '../tree/node-tree.ts';
import { unpackOcMirror } from '../tree/oc-mirror.ts';
import { type MirroredImage, mirroredImages, mirrorLocations, mirrorSources as ocMirrorSources } from '../tree/oc-mirror-images.ts';
import { type MissingBlob, missingBlobs, readTreeFacts } from '../tree/tree-check.ts';
import { copyTree } from '../tree/tree-copy.ts';
import { holdsSignatures, type ServedImage, treeImages } from '../tree/tree-images.ts';
import type { AnsweredImage } from '../tree/tree-signatures.ts';
import { registryAddress } from './registry-address.ts';

/** A registry tree on this node, and the images that it serves. */
export interface ServedTree {
  /** The directory that holds `docker`. */
  readonly path: string;
  /** The directory on the partition that links in the tree lead into; undefined for a tree that is whole by itself. */
  readonly blobs?: string;
  readonly payload: string;
  readonly sources: MirrorRequest['sources'];
  /** `pending` are those that will be served. */
  readonly images: readonly ImageState[];
  /** The images that it answers for, by the names that engines ask for. */
  readonly answers: readonly AnsweredImage[];
  /** Whether signatures lie beside its images. */
  readonly hasSignatures: boolean;
  /** The images whose bundle names signatures of them. */
  readonly signed: readonly SignedSource[];
  /** The part of the payload that could not be read: it is unknown which images are lost with it. */
  readonly damage?: ErrorRecord | undefined;
  /** The image that is to serve it, if one is named. */
  readonly registryImage: string | undefined;
  /** The digest that the tree has for a full reference. */
  readonly find: (reference: Reference) => Digest | undefined;
}

/**
 * The tree of a bundle: one that lies in it, or one that is made on the node.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_MIRROR*, ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE, ERR_STORE_MOUNT
 */
export async function treeOf(bundle: StageBundle, context: RunContext): Promise<ServedTree> {
  if (bundle.registry !== undefined) return await treeInBundle(bundle, bundle.registry, context);
  return bundle.ocMirror !== undefined ? await treeOfMirror(bundle.ocMirror, context) : await treeOfPayload(bundle, context);
}

/**
 * A tree from the factory: its links and manifests are copied. Its configs and layers are served from where they lie, and checked by the engines that
 * pull them.
 */
async function treeInBundle(bundle: StageBundle, registry: RegistrySource, context: RunContext): Promise<ServedTree> {
  const { host, act, stage, stop } = context;
  const data = await bindData(host, bundle.directory, act);
  if (stage === 'discovery') addNotices(context, [IN_USE]);
  const from = join(data, relative(bundle.directory, registry.path));
  const { path, blobs } = await copyTree(host, { from, files: registry.files, act, signal: stop });
  const inTree = await treeImages(path);
  const facts = await readTreeFacts(path, inTree);
  const lacking = (digest: Digest): readonly MissingBlob[] =>
    missingBlobs([{ repository: '', digest, tags: [] }], facts, host.architecture);
  // For a tag, engines accept whatever manifest they get.
  const unread = inTree.filter(({ digest }) => facts.manifests.get(digest) === undefined);
  const forged = unread.find(({ digest }) => existsSync(join(path, treeBlobPath(digest))));
  if (forged !== undefined) throw damagedTreeError(from, [{ part: 'manifest', digest: forged.digest }]);
  const judged = (bundle.images ?? []).map((image) => ({ image, missing: lacking(image.manifestDigest) }));
  const whole = judged.filter(({ missing }) => missing.length === 0).map(({ image }) => image);
  const broken = judged.filter(({ missing }) => missing.length > 0).map(({ image }) => image);
  // Engines would take the manifest of an incomplete image, and then fail at the missing blobs.
  if (broken.length > 0)
    await hideFromTree(
      host,
      broken.map(({ names, manifestDigest }) => ({ names, digests: [manifestDigest] })),
    );
  return {
    path,
    blobs,
    payload: 'registry',
    sources: sourcesOf(whole, context),
    images: judged.map(({ image: { reference, names, manifestDigest }, missing }) =>
      missing.length === 0
        ? pending(reference, names, [manifestDigest])
        : unservedState(reference, errorRecord(damagedTreeError(from, missing))),
    ),
    answers: whole.map(({ names, manifestDigest }) => ({ names, digest: manifestDigest })),
    hasSignatures: whole.some(hasSigstore),
    signed: whole.map((image) => ({ names: image.names, signed: { bundle: bundle.directory, image } })),
    registryImage: registry.registryImage,
    find: finder(inTree, registryRepository),
  };
}

const IN_USE =
  'the registry serves from the partition, which stays mounted: run prestage-agent release before anything is installed on its disk';

function damagedTreeError(tree: string, parts: readonly Pick<MissingBlob, 'part' | 'digest'>[]): PrestageError {
  const named = parts.map(({ part, digest }) => `${part} ${digest}`).join(', ');
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `${tree} lacks ${named}, or has a damaged copy`,
    'Write the bundle to the partition again; if it fails again, replace the disk',
  );
}

/** Archives of oc-mirror become a tree on the disk of the node. */
async function treeOfMirror({ sets, resources }: OcMirrorFolder, context: RunContext): Promise<ServedTree> {
  const { host, act, stop } = context;
  const path = hostPath(host, REGISTRY_PATH);
  const archives = sets.flatMap((set) => set.archives.map((archive) => archive.path));
  const made = await unpackOcMirror(host, { archives, to: path, act, signal: stop });
  const beside = await Promise.all(resources.map(async (where) => ({ where, text: await readText(where) })));
  const inside = [...made.resources.idms, ...made.resources.itms].map((text) => ({ text, where: 'working-dir/cluster-resources' }));
  const inTree = await treeImages(path);
  const others = new Set(made.others);
  const repositories = inTree.map((image) => image.repository);
  const found = ocMirrorSources(parseMirrorSets([...inside, ...beside]), configurationsOf(made.resources.isc, context), repositories);
  addNotices(context, found.notices);
  const images = mirroredImages(
    inTree.filter(({ digest }) => !others.has(digest)),
    found.sources,
  );
  return {
    path,
    payload: 'oc-mirror',
    damage: damageError([...absentArchives(sets), ...made.faults]),
    sources: mirrorLocations(found.sources, [registryAddress(context)]),
    images: [
      ...images.flatMap(({ sources, tags, digest }) =>
        sources.map((source) =>
          pending(
            `${source}@${digest}`,
            tags.map((tag) => `${source}:${tag}`),
            [digest],
          ),
        ),
      ),
      ...[...Map.groupBy(made.missing, (part) => part.image)].map(([image, parts]) => unservedState(image, lacks(image, parts))),
    ],
    answers: images.flatMap(({ sources, tags, digest, repository }) =>
      sources.map((source) => ({ names: [`${source}@${digest}`, ...tags.map((tag) => `${source}:${tag}`)], digest, repository })),
    ),
    hasSignatures: await holdsSignatures(path),
    signed: [],
    registryImage: releaseRegistry(images),
    find: finder(
      images.flatMap((image) => image.sources.map((repository) => ({ ...image, repository }))),
      nameOf,
    ),
  };
}

/** They only help to name sources, so one that cannot be read does not prevent serving. */
function configurationsOf(texts: readonly string[], context: RunContext): readonly SetConfiguration[] {
  return texts.flatMap((text) => {
    try {
      return [parseSetConfiguration({ text, where: 'the ImageSetConfiguration in the archives' })];
    } catch (error) {
      addNotices(context, [messageOf(error)]);
      return [];
    }
  });
}

/** The registry component of a release, the newest if there are several: oc-mirror tags components `VERSION-ARCHITECTURE-COMPONENT`. */
function releaseRegistry(images: readonly MirroredImage[]): string | undefined {
  const found = images.flatMap(({ sources: [source], tags, digest }) =>
    tags
      .filter((tag) => tag.endsWith('-docker-registry'))
      .map((tag) => ({ tag, name: `${source}@${digest}`, isNamed: source !== undefined })),
  );
  return found.filter(({ isNamed }) => isNamed).toSorted((a, b) => b.tag.localeCompare(a.tag, 'en', { numeric: true }))[0]?.name;
}

function lacks(image: string, parts: readonly { readonly part: string; readonly digest: string; readonly from: string }[]): ErrorRecord {
  const named = parts.map(({ part, digest }) => `${part} ${digest}`).join(', ');
  return errorRecord(
    new PrestageError(
      'ERR_MIRROR_MISSING',
      `${image} is not served: the archives lack ${named}`,
      `Add ${parts[0]?.from ?? 'all archives'}`,
    ),
  );
}

/** Archives and layouts become a tree on the disk of the node, too. */
async function treeOfPayload(bundle: StageBundle, context: RunContext): Promise<ServedTree> {
  const { host, act, stop } = context;
  const payload = await bundle.payload();
  addNotices(context, payload.notices);
  const path = hostPath(host, REGISTRY_PATH);
  await using pool = createArchivePool({ size: host.cores, log: host.log });
  const made = await makeTreeOf(payload.images, { to: path, pool, parallel: host.cores, act, signal: stop }, context);
  const refused = [...payload.refused, ...made.refused];
  const names = new Set(refused.map(({ reference }) => reference));
  const images = payload.images.filter(({ reference }) => !names.has(reference));
  const hasSignatures = await addSignatures(host, { to: path, images, act });
  return {
    path,
    payload: payload.kind,
    sources: sourcesOf(images, context),
    images: [
      ...images.map(({ reference, names: all, digest }) => pending(reference, all, digest === undefined ? [] : [digest])),
      ...refused.map(({ reference, error }) => unservedState(reference, error)),
    ],
    answers: images.flatMap(({ names: all, digest }) => (digest === undefined ? [] : [{ names: all, digest }])),
    hasSignatures,
    signed: images.flatMap(({ names: all, signed }) => (signed === undefined ? [] : [{ names: all, signed }])),
    registryImage: bundle.store?.registryImage,
    find: finder(await treeImages(path), registryRepository),
  };
}

async function makeTreeOf(
  images: Awaited<ReturnType<StageBundle['payload']>>['images'],
  request: Omit<TreeRequest<never>, 'images'>,
  { host }: RunContext,
): Promise<MadeTree> {
  const layouts = images.filter((image) => image.kind === 'layout');
  if (layouts.length > 0) return await layoutTree(host, { ...request, images: layouts });
  return await archivesTree(host, { ...request, images: images.filter((image) => image.kind === 'archive') });
}

/** Makes a function that finds the digest that is served for a reference, by its repository in the tree. */
function finder(images: readonly ServedImage[], repositoryOf: (reference: Reference) => string): ServedTree['find'] {
  return (reference) => {
    const repository = repositoryOf(reference);
    const { digest, tag = 'latest' } = reference;
    return images.find((one) => one.repository === repository && (digest === undefined ? one.tags.includes(tag) : one.digest === digest))
      ?.digest;
  };
}

function sourcesOf(images: readonly { readonly names: readonly string[] }[], context: RunContext): MirrorRequest['sources'] {
  return mirrorSources(
    images.flatMap((image) => image.names),
    [registryAddress(context)],
  );
}

function pending(reference: string, names: readonly string[], digests: readonly Digest[]): ImageState {
  return { reference, names: [...names], digests: [...digests], state: 'pending' };
}

function unservedState(reference: string, error: ErrorRecord): ImageState {
  return { reference, names: [], digests: [], state: 'failed', reason: error.message, error };
}
