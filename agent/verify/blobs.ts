import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { BundleFault } from '../bundle/verify-files.ts';
import { readPlatform } from '../extract/image-platform.ts';
import { isThere } from '../host/files.ts';
import { type Digest, digestOf } from '../model/digest.ts';
import { type ErrorCode, errorRecord, PrestageError } from '../model/errors.ts';
import {
  type Descriptor,
  type ImageManifest,
  type IndexManifest,
  instanceFor,
  MANIFEST_LIMIT_BYTES,
  parseManifest,
} from '../model/manifest.ts';
import { isForeignLayer, notImage, notImageError } from '../model/manifest-content.ts';
import { reasonOf } from '../model/system-error.ts';

/** Blobs stored under their digests, in an OCI layout or in the tree of a registry. */
export interface BlobStore {
  /** Top directory of the bundle. */
  readonly directory: string;
  /** Path of a blob, relative to the top. */
  readonly pathOf: (digest: Digest) => string;
  /** False for a metadata tree, which has only manifests and configs. */
  readonly hasLayers: boolean;
  /** Error code for a blob that is missing or does not match. */
  readonly code: ErrorCode;
}

/** An image that a store of blobs should have. */
export interface WantedImage {
  readonly reference: string;
  /** Digest of its manifest or manifest list. */
  readonly digest: Digest;
  /** It is an attachment of an image, not an image itself. */
  readonly isAttached?: true;
}

/**
 * Follows images from their manifests to their blobs. Every manifest must match its digest, and every blob that it names must exist in its size.
 * In a manifest list, the image for the architecture must be complete, and so must every other image whose manifest exists. Manifests of other
 * platforms may be missing, because a copy for one platform leaves them out. Configs and layers are not read.
 * @returns one fault for each blob or image, with the first reference that needs it
 */
export async function reachFaults(store: BlobStore, images: readonly WantedImage[], architecture: string): Promise<readonly BundleFault[]> {
  const faults = new Map<string, BundleFault>();
  const seen = new Set<Digest>();
  const note = (path: string, fault: PrestageError): void => {
    if (!faults.has(path)) faults.set(path, { path, ...errorRecord(fault) });
  };
  const follow = async (
    digest: Digest,
    { reference, isAttached }: Pick<WantedImage, 'reference' | 'isAttached'>,
    chosen: boolean,
  ): Promise<void> => {
    if (seen.has(digest)) return;
    const path = store.pathOf(digest);
    if (!chosen && !(await isThere(join(store.directory, path)))) return;
    seen.add(digest);
    const manifest = await readManifest(store, digest, reference).catch((error: unknown) => {
      if (!(error instanceof PrestageError)) throw error;
      note(path, error);
      return undefined;
    });
    const what = chosen && isAttached !== true && manifest !== undefined ? notImage(manifest, await osOf(store, manifest)) : undefined;
    if (what !== undefined) note(path, notImageError(`${join(store.directory, path)}, which ${reference} names,`, what));
    if (manifest?.kind === 'image') {
      const layers = manifest.layers.filter(({ mediaType }) => store.hasLayers && (chosen || !isForeignLayer(mediaType)));
      for (const blob of [manifest.config, ...layers]) {
        const fault = await blobFault(store, blob, reference);
        if (fault !== undefined) note(store.pathOf(blob.digest), fault);
      }
    }
    if (manifest?.kind !== 'index') return;
    const own = instanceFor(manifest, architecture);
    if (own === undefined) note(path, noInstance(store, manifest, { digest, reference }, architecture));
    for (const instance of manifest.instances) await follow(instance.digest, { reference }, instance.digest === own?.digest);
  };
  for (const image of images) await follow(image.digest, image, true);
  return [...faults.values()];
}

async function readManifest(store: BlobStore, digest: Digest, reference: string): Promise<ImageManifest | IndexManifest> {
  const path = join(store.directory, store.pathOf(digest));
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw blobError(store, `${path}, the manifest of ${reference}, cannot be read: ${reasonOf(cause)}`);
    },
  );
  const found = await file.stat();
  if (!found.isFile() || found.size > MANIFEST_LIMIT_BYTES)
    throw blobError(store, `${path}, the manifest of ${reference}, is not a regular file of at most ${MANIFEST_LIMIT_BYTES} bytes`);
  const bytes = await file.readFile();
  const actual = digestOf(bytes);
  if (actual !== digest) throw blobError(store, `${path}, the manifest of ${reference}, has the digest ${actual}`);
  return parseManifest(bytes, path);
}

async function osOf(store: BlobStore, manifest: ImageManifest | IndexManifest): Promise<string> {
  if (manifest.kind === 'index') return '';
  return (await readPlatform(join(store.directory, store.pathOf(manifest.config.digest)), manifest.config)).os;
}

async function blobFault(store: BlobStore, blob: Descriptor, reference: string): Promise<PrestageError | undefined> {
  const path = join(store.directory, store.pathOf(blob.digest));
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => reasonOf(error));
  if (typeof found === 'string') return blobError(store, `${path}, which ${reference} needs, cannot be read: ${found}`);
  if (!found.isFile()) return blobError(store, `${path}, which ${reference} needs, is not a regular file`);
  if (found.size === blob.sizeBytes) return undefined;
  return blobError(store, `${path} has ${found.size} bytes, but the manifest of ${reference} says ${blob.sizeBytes}`);
}

function noInstance(store: BlobStore, index: IndexManifest, image: WantedImage, architecture: string): PrestageError {
  const platforms = index.instances.map((one) => `${one.os}/${one.architecture}`).join(', ');
  return new PrestageError(
    'ERR_ARCHITECTURE',
    `${join(store.directory, store.pathOf(image.digest))}: ${image.reference} has no image for linux/${architecture}, only: ${platforms || 'none'}`,
    'Pull it at the factory from a registry that has that architecture, or set --architecture',
  );
}

export function blobError(store: Pick<BlobStore, 'code'>, message: string): PrestageError {
  return new PrestageError(store.code, message, 'Write the bundle again from the factory; if it is faulty there, pull and build it again');
}
