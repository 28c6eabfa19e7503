import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readArchives } from '../extract/archives.ts';
import { readNamedLayout } from '../extract/named-layout.ts';
import type { LayoutImage, Payload, SourceImage } from '../extract/payload.ts';
import {
  BUNDLE_FILE,
  type Bundle,
  type BundleFile,
  type BundleImage,
  type BundlePayload,
  bundleImages,
  PARTIAL_FILE,
} from '../model/bundle.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { formatReference, parseReference } from '../model/reference.ts';
import type { Stage } from '../model/stage.ts';
import { reasonOf } from '../model/system-error.ts';
import { findOcMirror } from '../tree/archive-sets.ts';
import { partialBundle, readBundle, type SealedBundle } from './read-bundle.ts';
import type { RegistrySource, StageBundle, StoreSource } from './stage-bundle.ts';

export interface BundleRequest {
  readonly directory: string;
  readonly stage: Stage;
  /** GOARCH name of this machine. */
  readonly architecture: string;
  /** Hash that the bundle's manifest must have (64 hex digits). If set, a folder without a manifest is refused, too. */
  readonly pinnedSha256: string | undefined;
}

/**
 * Reads what a partition or folder holds for a stage: a bundle sealed by its manifest, or a folder recognized by its content.
 * @throws PrestageError ERR_BUNDLE_PARTIAL, ERR_BUNDLE_PIN, ERR_BUNDLE, ERR_PAYLOAD_MISSING
 */
export async function readStageBundle(request: BundleRequest): Promise<StageBundle> {
  const { directory, stage, pinnedSha256 } = request;
  const names = await readdir(directory).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${directory} cannot be read: ${reasonOf(cause)}`,
      'Set --bundle to the directory of a bundle',
      { cause },
    );
  });
  if (names.includes(PARTIAL_FILE)) throw partialBundle(directory);
  if (names.includes(BUNDLE_FILE)) return sealedBundle(await readBundle(directory, pinnedSha256), stage);
  if (pinnedSha256 !== undefined) {
    throw new PrestageError(
      'ERR_BUNDLE_PIN',
      `${directory} has no ${BUNDLE_FILE}, but one with the sha256 ${pinnedSha256} is pinned`,
      'Write the bundle that the ignition was rendered for',
    );
  }
  const folder = {
    directory,
    stage,
    sealedSha256: undefined,
    architecture: undefined,
    images: undefined,
    store: undefined,
    registry: undefined,
  };
  const ocMirror = await findOcMirror(directory);
  if (ocMirror !== undefined) {
    return {
      ...folder,
      ocMirror,
      extractable: undefined,
      payload: async () => onlyServed(directory),
    };
  }
  if (names.includes('oci-layout') && names.includes('index.json')) {
    return { ...folder, ocMirror: undefined, extractable: 'oci', payload: async () => await layoutFolder(directory, request.architecture) };
  }
  const payload = async (): Promise<Payload> => ({ ...(await readArchives(directory, stage)), isSealed: false });
  return { ...folder, ocMirror: undefined, extractable: 'archives', payload };
}

/** @throws PrestageError ERR_REFERENCE if a name is not a reference, whatever the delivery */
function sealedBundle({ directory, bundle, sha256 }: SealedBundle, stage: Stage): StageBundle {
  const payload = async (): Promise<Payload> => await sealedPayload(bundle, directory, stage);
  const images = bundleImages(bundle, stage, join(directory, BUNDLE_FILE)).map((image) => {
    parseReference(image.reference);
    return { ...image, names: [...fullNames(image)] };
  });
  return {
    directory,
    stage,
    sealedSha256: sha256,
    architecture: bundle.architecture,
    images,
    store: storeSource(bundle, directory, stage),
    registry: registrySource(bundle, directory),
    ocMirror: undefined,
    extractable: chooseForm(bundle.payloads)?.kind,
    payload,
  };
}

function storeSource(bundle: Bundle, directory: string, stage: Stage): StoreSource | undefined {
  const payload = bundle.payloads.find((one) => one.kind === 'store' && one.stage === stage);
  const image = bundle.files.find((file) => payload?.kind === 'store' && file.path === payload.image);
  const hashTree = bundle.files.find((file) => payload?.kind === 'store' && file.path === payload.verity.hashTree);
  if (payload?.kind !== 'store' || image === undefined || hashTree === undefined) return undefined;
  return {
    image: {
      path: join(directory, image.path),
      sizeBytes: image.sizeBytes,
      sha256: image.sha256,
      pieces: payload.pieces,
      hashTree: join(directory, hashTree.path),
      hashTreeSizeBytes: hashTree.sizeBytes,
      rootHash: payload.verity.rootHash,
    },
    mirror: { path: join(directory, payload.mirror), files: filesBelow(bundle, payload.mirror) },
    unmirrored: payload.unmirrored ?? [],
    osTree: payload.osTree === undefined ? undefined : { path: join(directory, payload.osTree), files: filesBelow(bundle, payload.osTree) },
    unstored: payload.unstored ?? [],
    registryImage: payload.registryImage === undefined ? undefined : fullName(payload.registryImage),
  };
}

function registrySource(bundle: Bundle, directory: string): RegistrySource | undefined {
  const payload = bundle.payloads.find((one) => one.kind === 'registry');
  if (payload === undefined) return undefined;
  const named = bundle.payloads.flatMap((one) => (one.kind === 'store' && one.registryImage !== undefined ? [one.registryImage] : []));
  const image = payload.registryImage ?? named[0];
  const registryImage = image === undefined ? undefined : fullName(image);
  return { path: join(directory, payload.path), files: filesBelow(bundle, payload.path), registryImage };
}

/** The files below a folder of the bundle, with paths relative to that folder. */
function filesBelow(bundle: Bundle, folder: string): readonly BundleFile[] {
  return bundle.files.flatMap((file) =>
    file.path.startsWith(`${folder}/`) ? [{ ...file, path: file.path.slice(folder.length + 1) }] : [],
  );
}

function onlyServed(directory: string): never {
  throw new PrestageError(
    'ERR_PAYLOAD_MISSING',
    `${directory} holds archives of oc-mirror, which cannot be extracted`,
    'Set delivery to registry, which serves their images',
  );
}

async function sealedPayload(bundle: Bundle, directory: string, stage: Stage): Promise<Payload> {
  const images = bundleImages(bundle, stage, join(directory, BUNDLE_FILE));
  const payload = chooseForm(bundle.payloads);
  if (payload === undefined) {
    const kinds = bundle.payloads.map((one) => one.kind).join(', ');
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${directory} holds no payload that can be extracted; its payloads: ${kinds || 'none'}`,
      'Build the bundle with --payload oci or archives',
    );
  }
  const listed = images.map((image) => image.reference);
  const common = { kind: payload.kind, isSealed: true, listed };
  if (payload.kind === 'oci') {
    return {
      ...common,
      images: images.map((image) => ({ ...layoutImage(image, join(directory, payload.path)), ...signedOf(image, directory) })),
      refused: [],
      notices: [],
    };
  }
  const archives = await readArchives(join(directory, payload.path), stage);
  const byReference = new Map(archives.images.map((image) => [image.reference, image]));
  const found = images.map((image) => {
    const archived = byReference.get(image.reference);
    return archived === undefined
      ? unlistedFault(image, archives.refused)
      : { ...archived, names: fullNames(image), digest: image.manifestDigest, growth: growthOf(image), ...signedOf(image, directory) };
  });
  return {
    ...common,
    images: found.filter((one) => 'archive' in one),
    refused: found.filter((one) => 'error' in one),
    notices: archives.notices,
  };
}

function signedOf(image: BundleImage, bundle: string): Pick<SourceImage, 'signed'> {
  return image.signatures === undefined ? {} : { signed: { bundle, image } };
}

/** A payload that containers-storage can be filled from, fastest first. */
function chooseForm(payloads: readonly BundlePayload[]): Extract<BundlePayload, { kind: 'oci' | 'archives' }> | undefined {
  return payloads.find((payload) => payload.kind === 'oci') ?? payloads.find((payload) => payload.kind === 'archives');
}

function layoutImage(image: BundleImage, layout: string): LayoutImage {
  return {
    kind: 'layout',
    reference: image.reference,
    names: fullNames(image),
    layout,
    digest: image.manifestDigest,
    growth: growthOf(image),
    ...(image.attachments && { attachments: image.attachments }),
  };
}

/** Parses a name before it goes to engines, units or configuration, so that no manifest can bring in other characters. */
function fullName(name: string): string {
  return formatReference(parseReference(name));
}

function fullNames(image: BundleImage): readonly string[] {
  return image.names.map(fullName);
}

function growthOf(image: BundleImage): number | undefined {
  return image.compressedBytes === 0 ? undefined : image.unpackedBytes / image.compressedBytes;
}

function unlistedFault(image: BundleImage, refused: Payload['refused']): Payload['refused'][number] {
  const known = refused.find((one) => one.reference === image.reference);
  if (known !== undefined) return known;
  const error = new PrestageError(
    'ERR_ARCHIVE_MISSING',
    `${image.reference} is in ${BUNDLE_FILE}, but not in the image list beside the archives`,
    'Build the bundle again',
  );
  return { reference: image.reference, error: errorRecord(error) };
}

/** An OCI layout outside of a bundle, as `pull` writes it: gives all its images, whatever the stage. */
async function layoutFolder(directory: string, architecture: string): Promise<Payload> {
  const { images: entries, refused, skipped } = await readNamedLayout(directory, architecture);
  const images = entries.map(
    ({ reference, name, digest }): LayoutImage => ({
      kind: 'layout',
      reference,
      names: [name],
      layout: directory,
      digest,
      growth: undefined,
    }),
  );
  return {
    kind: 'oci',
    isSealed: false,
    listed: [...images, ...refused].map((image) => image.reference),
    images,
    refused,
    notices: ['the OCI layout has no image list, so all its images are loaded, whatever the stage', ...skipped],
  };
}
