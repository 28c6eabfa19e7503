import type { ArchiveFile } from '../../extract/archives.ts';
import type { ReleaseSignature } from '../../model/bundle.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import type { Stage } from '../../model/stage.ts';
import { isOperatingSystem, type OsImagePlan } from './os-images.ts';
import { attachedBlobs } from './source-attached.ts';
import { layersOf, type NamedImage } from './source-image.ts';
import { signatureBlobs } from './source-signatures.ts';

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

/** All that decides what a bundle becomes. Sizes are bytes. */
export interface BuildFacts {
  /** GOARCH name. */
  readonly architecture: string;
  readonly payloads: readonly PayloadKind[];
  readonly stages: readonly { readonly stage: Stage; readonly images: readonly NamedImage[] }[];
  /** The image that was asked for to serve the registry; listed or not. */
  readonly registryImage?: NamedImage;
  /** The archives that are taken as they are; undefined where they are to be made. */
  readonly archives?: readonly ArchiveFile[];
  /** Paths of list files by their name in the bundle, with their content. */
  readonly listFiles: ReadonlyMap<string, { readonly from: string; readonly sha256: string }>;
  readonly agents: readonly AgentFile[];
  /** Of releases that are listed. */
  readonly releaseSignatures: readonly ReleaseSignature[];
  /** Seconds since 1970 for what a store dates by the clock. */
  readonly stampSeconds: number;
  /** Unpacked sizes of layers, about. */
  readonly unpackedBytes: ReadonlyMap<Digest, number>;
  /** What becomes of operating systems; those that are left out are in no stage. */
  readonly osImages: OsImagePlan;
  /** Whether files of the input can be placed in the bundle without a copy. */
  readonly canLink: boolean;
}

/** One part of a bundle: it is made as a whole, or kept as it is where its key is the recorded one. */
export interface Part {
  /** Unique in the bundle, and its name in the record. */
  readonly id: string;
  readonly kind: PayloadKind | 'agent' | 'signatures';
  readonly stage?: Stage;
  /** What it is made of, as a hash. */
  readonly key: string;
  /** What it owns in the bundle: files and folders. */
  readonly paths: readonly string[];
  readonly images: readonly NamedImage[];
  /** Of a store: operating systems that lie beside it whole, to be served. */
  readonly served?: readonly NamedImage[];
  /** Blobs of the layout that it has besides; only of signatures. */
  readonly blobs?: readonly Digest[];
  /** What it takes in the bundle, about, where nothing is there yet. */
  readonly outputBytes: number;
  /** What it takes besides while it is made, about. */
  readonly workBytes: number;
}

/** Changes whenever the same facts make other bytes than before. */
const RECIPE = 4;
/** A store image is about as large as its compressed layers; zstd is a little better than gzip, link files and manifests are small. */
const SQUASHFS_RATIO = 1;
/** A file of a signature takes one block. */
const SIGNATURE_BYTES = 4096;
/** Every file of an unpacked layer takes whole blocks. */
const BLOCKS_RATIO = 1.25;

/** Decides which parts a bundle has and what each is made of. The same facts give the same plan. */
export function planBuild(facts: BuildFacts): readonly Part[] {
  const all = distinct(facts.stages.flatMap((one) => one.images));
  const compressed = sum(layersOf(all).map((layer) => layer.sizeBytes));
  const parts = facts.payloads.flatMap((kind): readonly Part[] => {
    if (kind === 'store') return facts.stages.map((one) => storePart(one.stage, one.images, facts));
    const copied = facts.canLink ? 0 : compressed + sum([...attachedBlobs(all).values()]);
    if (kind === 'oci') {
      return [{ id: kind, kind, key: keyOf(kind, describeWhole(all)), paths: [kind], images: all, outputBytes: copied, workBytes: 0 }];
    }
    if (kind === 'registry') {
      const images = withRegistry(all, facts);
      const key = keyOf(kind, describeWhole(images), facts.registryImage?.names[0] ?? '');
      return [{ id: kind, kind, key, paths: [kind], images, outputBytes: copied, workBytes: 0 }];
    }
    const { archives, listFiles } = facts;
    const lists = [...listFiles].map(([name, file]) => [name, file.sha256]);
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

/** Name of the part that is the store of a stage. */
export function storePartId(stage: Stage): string {
  return `store-${stage}`;
}

function storePart(stage: Stage, listed: readonly NamedImage[], facts: BuildFacts): Part {
  const { registryImage, stampSeconds, architecture, canLink } = facts;
  const { choice } = facts.osImages;
  // Nothing pivots while a node is discovered, and what is served from a partition would keep it from being installed to.
  const isServed = (image: NamedImage): boolean => stage === 'installed' && choice !== 'store' && isOperatingSystem(image);
  const served = listed.filter(isServed);
  const images = withRegistry(choice === 'serve' ? listed.filter((image) => !isServed(image)) : listed, facts);
  const layers = layersOf(images);
  const servedBytes = sum(layersOf(served).map((layer) => layer.sizeBytes));
  const key = keyOf('store', stage, describe(images), describe(served), stampSeconds, architecture, registryImage?.names[0] ?? '');
  const unpacked = sum(layers.map((layer) => facts.unpackedBytes.get(layer.digest) ?? layer.sizeBytes));
  return {
    id: storePartId(stage),
    kind: 'store',
    stage,
    key,
    paths: [
      ...[`store/${stage}.squashfs`, `store/${stage}.verity`, `store/${stage}.mirror`],
      ...(served.length > 0 ? [`store/${stage}.os`] : []),
    ],
    images,
    ...(served.length > 0 && { served }),
    outputBytes: Math.ceil(sum(layers.map((layer) => layer.sizeBytes)) * SQUASHFS_RATIO) + (canLink ? 0 : servedBytes),
    workBytes: Math.ceil(unpacked * BLOCKS_RATIO),
  };
}

/** What serves a registry lies beside what it serves, listed or not. */
function withRegistry(listed: readonly NamedImage[], { registryImage }: BuildFacts): readonly NamedImage[] {
  return distinct(registryImage === undefined ? listed : [...listed, registryImage]);
}

/** Images that are the same in two stages, once, with all their names. */
function distinct(images: readonly NamedImage[]): readonly NamedImage[] {
  const byReference = new Map<string, NamedImage>();
  for (const image of images) {
    const earlier = byReference.get(image.reference);
    byReference.set(
      image.reference,
      earlier === undefined ? image : { ...earlier, names: [...new Set([...earlier.names, ...image.names])] },
    );
  }
  return [...byReference.values()];
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

/** A hash of what decides a part. */
export function keyOf(...what: readonly unknown[]): string {
  return digestOf(JSON.stringify([RECIPE, ...what]));
}

/** Most bytes that a build takes at one time, about: all that stays, and the work of the part that takes most. */
export function needsOf(parts: readonly Part[]): { readonly outputBytes: number; readonly workBytes: number } {
  return { outputBytes: sum(parts.map((part) => part.outputBytes)), workBytes: Math.max(0, ...parts.map((part) => part.workBytes)) };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}
