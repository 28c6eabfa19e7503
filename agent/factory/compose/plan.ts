import type { ArchiveFile } from '../../extract/archives.ts';
import type { ReleaseSignature } from '../../model/bundle.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import { STAGES, type Stage } from '../../model/stage.ts';
import { isOperatingSystem, type OsImagePlan } from './os-images.ts';
import { attachedBlobs } from './source-attached.ts';
import { layersOf, type NamedImage, unionOf } from './source-image.ts';
import { signatureBlobs } from './source-signatures.ts';
import type { CompressionPlan } from './store-compression.ts';

/** Forms that a bundle can hold its images in. */
export const PAYLOAD_KINDS = ['store', 'oci', 'archives', 'registry'] as const;
export type PayloadKind = (typeof PAYLOAD_KINDS)[number];

/** An executable of the agent. */
export interface AgentFile {
  readonly from: string;
  /** Its path in the bundle. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

/** Everything that determines a bundle. Sizes are bytes. */
export interface BuildFacts {
  /** GOARCH name. */
  readonly architecture: string;
  readonly payloads: readonly PayloadKind[];
  readonly stages: readonly { readonly stage: Stage; readonly images: readonly NamedImage[] }[];
  /** The image that was chosen to serve the registry; listed or not. */
  readonly registryImage?: NamedImage;
  /** The archives that are used as they are; undefined if they have to be made. */
  readonly archives?: readonly ArchiveFile[];
  /** Paths of list files by their name in the bundle, with their content. */
  readonly listFiles: ReadonlyMap<string, { readonly from: string; readonly sha256: string }>;
  /** Listed lines that do not name an image, as listed. */
  readonly leftOut?: readonly string[];
  readonly agents: readonly AgentFile[];
  /** Of releases that are listed. */
  readonly releaseSignatures: readonly ReleaseSignature[];
  /** Seconds since 1970, for times in a store that would come from the clock. */
  readonly stampSeconds: number;
  /** Approximate unpacked sizes of layers. */
  readonly unpackedBytes: ReadonlyMap<Digest, number>;
  /** How operating systems are handled; those that are left out are in no stage. */
  readonly osImages: OsImagePlan;
  /** Of store images. */
  readonly compression: CompressionPlan;
  /** Whether files of the input can be placed in the bundle without a copy. */
  readonly canLink: boolean;
}

/** One part of a bundle: it is made as a whole, or kept as it is if its key is the recorded one. */
export interface Part {
  /** Unique in the bundle, and its name in the record. */
  readonly id: string;
  readonly kind: PayloadKind | 'agent' | 'signatures';
  /** Of a store: the stages that it is for. */
  readonly stages?: readonly Stage[];
  /** Hash of everything that it is made of. */
  readonly key: string;
  /** Files and folders that it owns in the bundle. */
  readonly paths: readonly string[];
  readonly images: readonly NamedImage[];
  /** Of a store: operating systems that are kept beside it with all layers, to be served. */
  readonly served?: readonly NamedImage[];
  /** Further blobs of the layout; only for signatures. */
  readonly blobs?: readonly Digest[];
  /** Approximate size in the bundle, if nothing is there yet. */
  readonly outputBytes: number;
  /** Approximate further space that it takes while it is made. */
  readonly workBytes: number;
}

/** The stage that serves operating systems beside its store. */
export const SERVING_STAGE: Stage = 'installed';

/** Raise it whenever the same facts give other bytes than before. */
const RECIPE = 6;
/** A store image is about as large as its compressed layers; zstd is a little better than gzip, link files and manifests are small. */
const SQUASHFS_RATIO = 1;
/** A file of a signature takes one block. */
const SIGNATURE_BYTES = 4096;
/** Every file of an unpacked layer takes whole blocks. */
const BLOCKS_RATIO = 1.25;

/** Decides which parts a bundle has and what each is made of. The same facts give the same plan. */
export function planBuild(facts: BuildFacts): readonly Part[] {
  const all = unionOf(facts.stages.map((one) => one.images));
  const compressed = sum(layersOf(all).map((layer) => layer.sizeBytes));
  const parts = facts.payloads.flatMap((kind): readonly Part[] => {
    if (kind === 'store') return storeParts(facts);
    const copied = facts.canLink ? 0 : compressed + sum([...attachedBlobs(all).values()]);
    if (kind === 'oci') {
      return [{ id: kind, kind, key: keyOf(kind, describeWhole(all)), paths: [kind], images: all, outputBytes: copied, workBytes: 0 }];
    }
    if (kind === 'registry') {
      const images = withRegistry(all, facts);
      const key = keyOf(kind, describeWhole(images), facts.registryImage?.names[0] ?? '');
      return [{ id: kind, kind, key, paths: [kind], images, outputBytes: copied, workBytes: 0 }];
    }
    const { archives, listFiles, leftOut = [] } = facts;
    const lists = [...[...listFiles].map(([name, file]) => [name, file.sha256]), ...(leftOut.length > 0 ? [leftOut] : [])];
    const source = archives === undefined ? describe(all) : archives.map((file) => [file.name, file.sizeBytes, file.modifiedMs]);
    const size =
      archives === undefined
        ? sum(all.map(({ image }) => sum(image.layers.map((layer) => layer.sizeBytes))))
        : facts.canLink
          ? 0
          : sum(archives.map((file) => file.sizeBytes));
    return [{ id: kind, kind, key: keyOf(kind, source, lists), paths: [kind], images: all, outputBytes: size, workBytes: 0 }];
  });
  const agents = facts.agents.map(
    (agent): Part => ({
      id: agent.path,
      kind: 'agent',
      key: keyOf('agent', [agent.path, agent.from, agent.sizeBytes, agent.modifiedMs]),
      paths: [agent.path],
      images: [],
      outputBytes: agent.sizeBytes,
      workBytes: 0,
    }),
  );
  return [...parts, ...signaturesPart(withRegistry(all, facts), facts.releaseSignatures), ...agents];
}

/** The signatures of all images, whatever form the images have, and of releases. */
function signaturesPart(images: readonly NamedImage[], releases: readonly ReleaseSignature[]): readonly Part[] {
  const signed = images.filter(({ signatures = [] }) => signatures.length > 0);
  const ofReleases = releases.flatMap(({ files }) => files);
  const blobs = [...new Set([...signatureBlobs(signed), ...ofReleases])];
  if (blobs.length === 0) return [];
  const outputBytes = blobs.length * SIGNATURE_BYTES;
  return [
    {
      id: 'signatures',
      kind: 'signatures',
      key: keyOf('signatures', blobs),
      paths: ['signatures'],
      images: signed,
      ...(ofReleases.length > 0 && { blobs: ofReleases }),
      outputBytes,
      workBytes: 0,
    },
  ];
}

/** Name of the part that is the store of a stage, or of all stages. */
export function storePartId(stage: Stage | undefined): string {
  return stage === undefined ? 'store' : `store-${stage}`;
}

/** Names of all parts that can be stores. */
export const STORE_PART_IDS: readonly string[] = [undefined, ...STAGES].map(storePartId);

/** Images of a store, and images that are kept beside it with all layers. */
interface StoreContent {
  readonly stages: readonly Stage[];
  readonly images: readonly NamedImage[];
  readonly served: readonly NamedImage[];
}

/** A store for each stage, or one for all if their images are equal. */
function storeParts(facts: BuildFacts): readonly Part[] {
  const contents = facts.stages.map(({ stage, images }) => storeContent(stage, images, facts));
  const [first, ...others] = contents;
  if (first === undefined) return [];
  const isEqual = others.length > 0 && others.every((other) => sortNames(other.images) === sortNames(first.images));
  if (!isEqual) return contents.map((content) => storePart(content, facts));
  const served = unionOf(contents.map((content) => content.served));
  return [storePart({ stages: contents.flatMap(({ stages }) => stages), images: first.images, served }, facts)];
}

function sortNames(images: readonly NamedImage[]): string {
  return JSON.stringify(describe(images.toSorted((a, b) => (a.reference < b.reference ? -1 : 1))));
}

function storeContent(stage: Stage, listed: readonly NamedImage[], facts: BuildFacts): StoreContent {
  const { choice } = facts.osImages;
  // A node does not pivot during discovery, and a registry that uses the partition would keep its disk from being installed to.
  const isServed = (image: NamedImage): boolean => stage === SERVING_STAGE && choice !== 'store' && isOperatingSystem(image);
  return {
    stages: [stage],
    images: withRegistry(choice === 'serve' ? listed.filter((image) => !isServed(image)) : listed, facts),
    served: listed.filter(isServed),
  };
}

function storePart({ stages, images, served }: StoreContent, facts: BuildFacts): Part {
  const { registryImage, stampSeconds, architecture, canLink, compression } = facts;
  const stage = stages.length === 1 ? stages[0] : undefined;
  const layers = layersOf(images);
  const servedBytes = sum(layersOf(served).map((layer) => layer.sizeBytes));
  const packing = [compression.algorithm, compression.level ?? null];
  const key = keyOf(
    'store',
    stages,
    describe(images),
    describe(served),
    stampSeconds,
    architecture,
    registryImage?.names[0] ?? '',
    packing,
  );
  const name = `store/${stage ?? 'all'}`;
  return {
    id: storePartId(stage),
    kind: 'store',
    stages,
    key,
    paths: [`${name}.squashfs`, `${name}.verity`, `${name}.mirror`, ...(served.length > 0 ? [`${name}.os`] : [])],
    images,
    ...(served.length > 0 && { served }),
    outputBytes: Math.ceil(sum(layers.map((layer) => layer.sizeBytes)) * SQUASHFS_RATIO) + (canLink ? 0 : servedBytes),
    workBytes: workBytesOf(images, facts),
  };
}

/** Adds the image that serves the registry, listed or not. */
function withRegistry(listed: readonly NamedImage[], { registryImage }: BuildFacts): readonly NamedImage[] {
  return unionOf([listed, registryImage === undefined ? [] : [registryImage]]);
}

function describe(images: readonly NamedImage[]): unknown {
  return images.map(({ names, image, signatures }) => [
    names,
    image.top.digest,
    image.manifest,
    ...(signatures === undefined ? [] : [signatures]),
  ]);
}

/** With attachments, which a store and archives have no place for. */
function describeWhole(images: readonly NamedImage[]): unknown {
  const attached = images.flatMap((image) => (image.attached === undefined ? [] : [[image.names, image.attached]]));
  return attached.length === 0 ? describe(images) : [describe(images), attached];
}

/** A hash of everything that determines a part. */
export function keyOf(...what: readonly unknown[]): string {
  return digestOf(JSON.stringify([RECIPE, ...what]));
}

/** Approximate unpacked size of images. */
function workBytesOf(images: readonly NamedImage[], { unpackedBytes }: Pick<BuildFacts, 'unpackedBytes'>): number {
  return Math.ceil(sum(layersOf(images).map((layer) => unpackedBytes.get(layer.digest) ?? layer.sizeBytes)) * BLOCKS_RATIO);
}

/**
 * Approximate number of bytes that a build takes at most at one time: everything that stays, and the work of the largest group.
 * @param groups parts that are made from one storage form one group
 */
export function needsOf(
  groups: readonly (readonly Part[])[],
  facts: Pick<BuildFacts, 'unpackedBytes'>,
): { readonly outputBytes: number; readonly workBytes: number } {
  const workOf = (group: readonly Part[]): number => {
    const [first, ...others] = group;
    return first === undefined || others.length === 0
      ? (first?.workBytes ?? 0)
      : workBytesOf(unionOf(group.map(({ images }) => images)), facts);
  };
  return { outputBytes: sum(groups.flat().map((part) => part.outputBytes)), workBytes: Math.max(0, ...groups.map(workOf)) };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
