import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readArchives } from '../extract/archives.ts';
import { readOciLayout } from '../extract/oci-layout.ts';
import { BUNDLE_FILE, type Bundle, type BundleImage, type BundlePayload, bundleImages, PARTIAL_FILE } from '../model/bundle.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { formatReference, parseReference } from '../model/reference.ts';
import type { Stage } from '../model/stage.ts';
import type { LayoutImage, Payload } from './payload.ts';
import { partialBundle, readBundle } from './read-bundle.ts';

export interface BundleRequest {
  readonly directory: string;
  readonly stage: Stage;
  /** Hash that the bundle's manifest must have (64 hex digits); then a folder without manifest is refused, too. */
  readonly pinnedSha256: string | undefined;
}

/**
 * Reads what a partition or folder holds for a stage: a bundle sealed by its manifest, or a folder recognised by what lies in it. Of a bundle
 * with several payloads the one that loads fastest is taken: the OCI layout needs no scratch.
 * @throws PrestageError ERR_BUNDLE_PARTIAL, ERR_BUNDLE_PIN, ERR_BUNDLE, ERR_PAYLOAD_MISSING, ERR_LIST, ERR_MAPPING
 */
export async function readPayload(request: BundleRequest): Promise<Payload> {
  const { directory, stage, pinnedSha256 } = request;
  const names = await readdir(directory).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${directory} cannot be read: ${cause.code ?? cause.message}`,
      'Give --bundle the directory of a bundle',
      { cause },
    );
  });
  if (names.includes(PARTIAL_FILE)) throw partialBundle(directory);
  if (names.includes(BUNDLE_FILE)) return await sealedPayload((await readBundle(directory, pinnedSha256)).bundle, directory, stage);
  if (pinnedSha256 !== undefined) {
    throw new PrestageError(
      'ERR_BUNDLE_PIN',
      `${directory} has no ${BUNDLE_FILE}, and one with the sha256 ${pinnedSha256} is pinned`,
      'Write the bundle that the ignition was rendered for',
    );
  }
  if (names.includes('oci-layout') && names.includes('index.json')) return await layoutFolder(directory);
  return { ...(await readArchives(directory, stage)), isSealed: false };
}

async function sealedPayload(bundle: Bundle, directory: string, stage: Stage): Promise<Payload> {
  const images = bundleImages(bundle, stage, join(directory, BUNDLE_FILE));
  const payload = chooseForm(bundle.payloads);
  if (payload === undefined) {
    const kinds = bundle.payloads.map((one) => one.kind).join(', ');
    throw new PrestageError(
      'ERR_PAYLOAD_MISSING',
      `${directory} holds no payload that can be extracted, it holds: ${kinds || 'none'}`,
      'Build the bundle with --payload oci or archives',
    );
  }
  const listed = images.map((image) => image.reference);
  const common = { kind: payload.kind, isSealed: true, listed };
  if (payload.kind === 'oci') {
    return { ...common, images: images.map((image) => layoutImage(image, join(directory, payload.path))), refused: [], notices: [] };
  }
  const archives = await readArchives(join(directory, payload.path), stage);
  const byReference = new Map(archives.images.map((image) => [image.reference, image]));
  const found = images.map((image) => {
    const archived = byReference.get(image.reference);
    return archived === undefined
      ? unlisted(image, archives.refused)
      : { ...archived, names: fullNames(image), digest: image.manifestDigest, growth: growthOf(image) };
  });
  return {
    ...common,
    images: found.filter((one) => 'archive' in one),
    refused: found.filter((one) => 'error' in one),
    notices: archives.notices,
  };
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
  };
}

/** What goes to skopeo is what the grammar allows, whoever wrote the manifest. */
function fullNames(image: BundleImage): readonly string[] {
  return image.names.map((name) => formatReference(parseReference(name)));
}

function growthOf(image: BundleImage): number | undefined {
  return image.compressedBytes === 0 ? undefined : image.unpackedBytes / image.compressedBytes;
}

function unlisted(image: BundleImage, refused: Payload['refused']): Payload['refused'][number] {
  const known = refused.find((one) => one.reference === image.reference);
  if (known !== undefined) return known;
  const error = new PrestageError(
    'ERR_ARCHIVE_MISSING',
    `${image.reference} is in ${BUNDLE_FILE} and not in the image list beside the archives`,
    'Build the bundle again',
  );
  return { reference: image.reference, error: errorRecord(error) };
}

/** An OCI layout without a bundle around it, as `pull` leaves it: all its images, whatever the stage. */
async function layoutFolder(directory: string): Promise<Payload> {
  const entries = await readOciLayout(directory);
  const images = entries.map(
    ({ reference, digest }): LayoutImage => ({
      kind: 'layout',
      reference,
      names: [formatReference(parseReference(reference))],
      layout: directory,
      digest,
      growth: undefined,
    }),
  );
  return {
    kind: 'oci',
    isSealed: false,
    listed: images.map((image) => image.reference),
    images,
    refused: [],
    notices: ['the OCI layout has no image list: all its images are loaded, whatever the stage'],
  };
}
