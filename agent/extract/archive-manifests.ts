import { type Digest, digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { type ImageManifest, type IndexManifest, instanceFor, parseManifest } from '../model/manifest.ts';
import { notImage, notImageError } from '../model/manifest-content.ts';
import { archiveFault } from './archive-faults.ts';
import { type ArchiveMember, readWhole } from './archive-members.ts';

/** A manifest in an archive. `file` is its name in the `dir:` layout; the top manifest is manifest.json. */
export interface FoundManifest {
  readonly file: string;
  readonly digest: Digest;
  /** Length in bytes. */
  readonly sizeBytes: number;
  readonly manifest: ImageManifest | IndexManifest;
}

/** The image of an archive for one architecture. */
export interface FoundImage {
  /** Digest of manifest.json, which can be a manifest list. */
  readonly topDigest: Digest;
  /** Digest of the manifest of the image itself; equals topDigest if there is no list. */
  readonly imageDigest: Digest;
  readonly image: ImageManifest;
  /** Number of images in the list; 1 without a list. */
  readonly instances: number;
}

/** Selects an image of an archive. */
export interface WantedImage {
  /** Path of the archive, for messages. */
  readonly path: string;
  /** GOARCH name. */
  readonly architecture: string;
}

/** Name of the top manifest in the `dir:` layout. */
const TOP_MANIFEST = 'manifest.json';

/**
 * Reads a manifest member and parses it.
 * @param named the digest in the member's name, if there is one
 * @throws PrestageError ERR_ARCHIVE_DIGEST, ERR_MANIFEST
 */
export async function readManifest(
  entry: ArchiveMember,
  named: Digest | undefined,
  path: string,
): Promise<FoundManifest & { readonly bytes: Buffer }> {
  const bytes = await readWhole(entry);
  const digest = digestOf(bytes);
  if (named !== undefined && named !== digest) {
    throw archiveFault('ERR_ARCHIVE_DIGEST', path, `manifest ${named} has the digest ${digest}`);
  }
  const { file } = entry.member;
  return { file, digest, sizeBytes: bytes.length, manifest: parseManifest(bytes, `${path}: ${file}`), bytes };
}

/**
 * Finds the image in the manifests read so far; undefined if a further manifest is needed.
 * @throws PrestageError ERR_ARCHITECTURE if the list has no image for the architecture, ERR_MANIFEST, ERR_NOT_IMAGE
 */
export function findImage(found: readonly FoundManifest[], wanted: WantedImage): FoundImage | undefined {
  const top = found.find(({ file }) => file === TOP_MANIFEST);
  if (top === undefined) return undefined;
  if (top.manifest.kind === 'image') {
    refuseOther(wanted.path, top.manifest);
    return { topDigest: top.digest, imageDigest: top.digest, image: top.manifest, instances: 1 };
  }
  refuseOther(wanted.path, top.manifest);
  const { digest } = chosenInstance(top.manifest, wanted);
  const child = found.find((one) => one.digest === digest && one.file !== TOP_MANIFEST);
  if (child === undefined) return undefined;
  if (child.manifest.kind === 'image') {
    refuseOther(wanted.path, child.manifest);
    return { topDigest: top.digest, imageDigest: digest, image: child.manifest, instances: top.manifest.instances.length };
  }
  throw archiveFault('ERR_MANIFEST', wanted.path, `its list names another list, ${digest}, as the image for ${wanted.architecture}`);
}

/**
 * Finds the image once the archive has been read to its end.
 * @throws PrestageError ERR_ARCHIVE_MEMBER if a manifest is missing; what findImage throws
 */
export function requireImage(found: readonly FoundManifest[], wanted: WantedImage): FoundImage {
  const image = findImage(found, wanted);
  if (image !== undefined) return image;
  const hasTop = found.some(({ file }) => file === TOP_MANIFEST);
  const lacking = hasTop ? `the manifest of the image for ${wanted.architecture}, which its list names` : TOP_MANIFEST;
  throw archiveFault('ERR_ARCHIVE_MEMBER', wanted.path, `lacks ${lacking}`);
}

function refuseOther(path: string, manifest: ImageManifest | IndexManifest): void {
  const what = notImage(manifest);
  if (what !== undefined) throw notImageError(path, what);
}

function chosenInstance(index: IndexManifest, wanted: WantedImage): { readonly digest: Digest } {
  const instance = instanceFor(index, wanted.architecture);
  if (instance !== undefined) return instance;
  const platforms = index.instances.map((one) => `${one.os}/${one.architecture}`).join(', ');
  throw new PrestageError(
    'ERR_ARCHITECTURE',
    `${wanted.path}: its list has no image for linux/${wanted.architecture}, only: ${platforms || 'none'}`,
    `Write an archive at the factory that holds the image for linux/${wanted.architecture}`,
  );
}
