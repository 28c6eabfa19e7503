import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { AbsentInstance } from '../model/absent-instances.ts';
import { besideImage, hasSubject, OCI_INDEX_TYPE } from '../model/attached.ts';
import { type Digest, digestOf, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import {
  type Descriptor,
  type ImageManifest,
  type IndexManifest,
  instanceFor,
  MANIFEST_LIMIT_BYTES,
  parseManifest,
} from '../model/manifest.ts';
import { notImage, notImageError } from '../model/manifest-content.ts';
import {
  OCI_INDEX_FILE,
  OCI_INDEX_LIMIT_BYTES,
  OCI_MARKER_FILE,
  type OciEntry,
  type OciIndex,
  parseOciIndex,
} from '../model/oci-layout.ts';
import { reasonOf } from '../model/system-error.ts';
import { findAbsent, readAbsentInstances } from './absent-instances.ts';
import { readPlatform } from './image-platform.ts';
import { withNested } from './nested-entries.ts';

/** The image of a layout for one architecture. */
export interface LayoutImage {
  /** Digest of the manifest of the image itself; that of the entry if there is no list. */
  readonly manifestDigest: Digest;
  readonly image: ImageManifest;
  /** Number of images in the list; 1 without a list. */
  readonly instances: number;
  /** The images of the list that the layout lacks. */
  readonly absent: readonly AbsentInstance[];
  /** The architecture in the config of the image, a GOARCH name; empty if it has none or cannot be read. */
  readonly architecture: string;
}

const PULL_AGAIN = 'Pull the images again: complete blobs are kept';

/** Gives the path of a blob below a directory. */
export type BlobPath = (directory: string, digest: Digest) => string;

/** Path of a blob in a layout. Source: OCI image-spec, image-layout.md. */
export function layoutBlobPath(directory: string, digest: Digest): string {
  return join(directory, 'blobs/sha256', hexOf(digest));
}

/**
 * The readable entries of an OCI image layout.
 * @throws PrestageError ERR_LAYOUT if the directory is not a layout or its index cannot be read
 */
export async function readOciLayout(directory: string): Promise<readonly OciEntry[]> {
  return (await readOciIndex(directory)).entries;
}

/**
 * Reads the index of an OCI image layout, including images that are named only in a nested index.
 * @throws PrestageError ERR_LAYOUT if the directory is not a layout or its index cannot be read
 */
export async function readOciIndex(directory: string): Promise<OciIndex> {
  const marker = join(directory, OCI_MARKER_FILE);
  const version = (await readPlain(marker, 4096)).toString('utf8');
  if (!/"imageLayoutVersion"\s*:\s*"1\./.test(version)) {
    throw new PrestageError('ERR_LAYOUT', `${marker} does not declare an OCI image layout of version 1`, PULL_AGAIN);
  }
  const index = join(directory, OCI_INDEX_FILE);
  const top = parseOciIndex((await readPlain(index, OCI_INDEX_LIMIT_BYTES)).toString('utf8'), index);
  return await withNested(top, async (digest) => await readNestedIndex(directory, digest));
}

/** The index in a blob; undefined if it is missing or damaged, which is reported when the image is read. */
async function readNestedIndex(directory: string, digest: Digest): Promise<OciIndex | undefined> {
  const path = layoutBlobPath(directory, digest);
  try {
    const bytes = await readPlain(path, MANIFEST_LIMIT_BYTES);
    return digestOf(bytes) === digest ? parseOciIndex(bytes.toString('utf8'), path) : undefined;
  } catch (error) {
    if (error instanceof PrestageError) return undefined;
    throw error;
  }
}

/**
 * The entries of a layout whose names are those of images. Signatures and attachments, whose tags contain the digest of their image, are left out.
 * Pure.
 */
export function imageEntries<T extends OciEntry>(entries: readonly T[]): readonly T[] {
  return entries.filter(({ reference, digest, mediaType }) => {
    const beside = besideImage(tagOf(reference), digest);
    return beside === undefined || (beside.kind === 'list' && mediaType !== OCI_INDEX_TYPE);
  });
}

/**
 * The entries of a layout that are images both by name and by manifest: a manifest that names another one as its subject is an attachment. Entries
 * with unreadable manifests are kept; reading the image reports the error.
 */
export async function withoutAttached<T extends OciEntry>(directory: string, entries: readonly T[]): Promise<readonly T[]> {
  const found: T[] = [];
  for (const entry of imageEntries(entries)) {
    const bytes = await readPlain(layoutBlobPath(directory, entry.digest), MANIFEST_LIMIT_BYTES).catch(() => undefined);
    if (bytes === undefined || digestOf(bytes) !== entry.digest || !hasSubject(bytes)) found.push(entry);
  }
  return found;
}

/** The tag of a name in a layout. The name can consist of only the tag. */
function tagOf(name: string): string {
  return name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf(':')) + 1);
}

/**
 * Reads a manifest of a layout and compares it with its digest.
 * @throws PrestageError ERR_LAYOUT if the blob is missing, ERR_LAYOUT_BLOB if it does not match, ERR_MANIFEST
 */
async function readLayoutManifest(
  directory: string,
  digest: Digest,
  pathOf: BlobPath = layoutBlobPath,
): Promise<ImageManifest | IndexManifest> {
  const path = pathOf(directory, digest);
  const bytes = await readPlain(path, MANIFEST_LIMIT_BYTES);
  const actual = digestOf(bytes);
  if (actual !== digest) throw new PrestageError('ERR_LAYOUT_BLOB', `${path} has the digest ${actual}`, PULL_AGAIN);
  return parseManifest(bytes, path);
}

/**
 * The image of a layout for an architecture. Manifests are verified by their digests. Config and layers must only exist in their size.
 * @param digest of the entry
 * @param architecture GOARCH name
 * @throws PrestageError ERR_LAYOUT, ERR_LAYOUT_BLOB, ERR_MANIFEST, ERR_ARCHITECTURE, ERR_NOT_IMAGE
 */
export async function layoutImage(directory: string, digest: Digest, architecture: string): Promise<LayoutImage> {
  const top = await readLayoutManifest(directory, digest);
  if (top.kind === 'image') {
    const own = await wholeImage(directory, digest, top);
    return { manifestDigest: digest, image: top, instances: 1, absent: [], architecture: own };
  }
  refuseOther(layoutBlobPath(directory, digest), top);
  const chosen = instanceFor(top, architecture);
  if (chosen === undefined) {
    const platforms = top.instances.map((one) => `${one.os}/${one.architecture}`).join(', ');
    throw new PrestageError(
      'ERR_ARCHITECTURE',
      `${directory}: the list ${digest} has no image for linux/${architecture}, only: ${platforms || 'none'}`,
      `Pull an image at the factory that has linux/${architecture}`,
    );
  }
  const absent = await findAbsent(top, (one) => layoutBlobPath(directory, one));
  if (absent.some((one) => one.digest === chosen.digest)) throw await absentInstance(directory, digest, chosen.digest, architecture);
  const image = await readLayoutManifest(directory, chosen.digest);
  if (image.kind === 'index') {
    throw new PrestageError('ERR_MANIFEST', `${directory}: the list ${digest} names another list, ${chosen.digest}`, PULL_AGAIN);
  }
  const own = await wholeImage(directory, chosen.digest, image);
  return { manifestDigest: chosen.digest, image, instances: top.instances.length, absent, architecture: own };
}

/** Refuses an image that lacks a blob or is not for Linux. @returns the architecture in its config */
async function wholeImage(directory: string, digest: Digest, image: ImageManifest): Promise<string> {
  const { os, architecture } = await readPlatform(layoutBlobPath(directory, image.config.digest), image.config);
  refuseOther(layoutBlobPath(directory, digest), image, os);
  await requireBlobs(directory, image);
  return architecture;
}

/**
 * A list of a layout, and the images in it that the layout lacks; undefined if the digest is not that of a list.
 * @throws PrestageError ERR_LAYOUT, ERR_LAYOUT_BLOB, ERR_MANIFEST
 */
export async function layoutList(
  directory: string,
  digest: Digest,
): Promise<{ readonly list: IndexManifest; readonly absent: readonly AbsentInstance[] } | undefined> {
  const list = await readLayoutManifest(directory, digest);
  if (list.kind === 'image') return undefined;
  return { list, absent: await findAbsent(list, (one) => layoutBlobPath(directory, one)) };
}

/**
 * Presents an image of a layout as a `dir:` layout of symbolic links, so that skopeo can copy it. skopeo's own `oci:` does not find entries with
 * Docker's media types (1.9.3: "no descriptor found for reference"), which most images of a release have. Manifests of a list that the layout lacks
 * are left out, as in a copy for one platform.
 * Source: containers/image, directory/directory_transport.go; oci/layout/oci_transport.go, getManifestDescriptor.
 * @param to directory to be created, or an empty one
 * @param pathOf for sources that store blobs elsewhere than a layout does, such as the tree of a registry
 */
export async function linkDirLayout(directory: string, digest: Digest, to: string, pathOf: BlobPath = layoutBlobPath): Promise<void> {
  await mkdir(to, { recursive: true });
  await writeFile(join(to, 'version'), 'Directory Transport Version: 1.1\n');
  const link = async (blob: Digest, file: string): Promise<void> => await symlink(resolve(pathOf(directory, blob)), join(to, file));
  await link(digest, 'manifest.json');
  const linked = new Set<Digest>();
  for (const { manifest, blob } of await manifestsBelow(directory, digest, pathOf)) {
    if (blob !== digest) await link(blob, `${hexOf(blob)}.manifest.json`);
    for (const { digest: part } of manifest.kind === 'image' ? [manifest.config, ...manifest.layers] : []) {
      if (!linked.has(part)) await link(part, hexOf(part));
      linked.add(part);
    }
  }
}

/** The error for a missing image of a list: it was lost if the record of `pull` shows that it existed; otherwise the source probably lacked it. */
export async function absentInstance(directory: string, list: Digest, instance: Digest, architecture: string): Promise<PrestageError> {
  const recorded = (await readAbsentInstances(directory)).get(list);
  if (recorded !== undefined && !recorded.some((one) => one.digest === instance)) {
    const path = layoutBlobPath(directory, instance);
    return new PrestageError('ERR_LAYOUT_BLOB', `${path}, the image of the list ${list} for linux/${architecture}, is missing`, PULL_AGAIN);
  }
  return new PrestageError(
    'ERR_ARCHITECTURE',
    `${directory}: the list ${list} names ${instance} for linux/${architecture}, which is missing: the source of the list may not have it`,
    `Pull it from a source that has the image for linux/${architecture}, or remove it from the list`,
  );
}

async function manifestsBelow(directory: string, digest: Digest, pathOf: BlobPath) {
  const top = await readLayoutManifest(directory, digest, pathOf);
  const found = [{ blob: digest, manifest: top }];
  for (const instance of new Set(top.kind === 'index' ? top.instances.map((one) => one.digest) : [])) {
    const isThere = await lstat(pathOf(directory, instance)).then(
      () => true,
      () => false,
    );
    if (isThere) found.push({ blob: instance, manifest: await readLayoutManifest(directory, instance, pathOf) });
  }
  return found;
}

function refuseOther(path: string, manifest: ImageManifest | IndexManifest, os = ''): void {
  const what = notImage(manifest, os);
  if (what !== undefined) throw notImageError(path, what);
}

async function requireBlobs(directory: string, image: ImageManifest): Promise<void> {
  for (const blob of [image.config, ...image.layers]) await requireBlob(directory, blob);
}

async function requireBlob(directory: string, { digest, sizeBytes }: Pick<Descriptor, 'digest' | 'sizeBytes'>): Promise<void> {
  const path = layoutBlobPath(directory, digest);
  const found = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_LAYOUT', `${path} cannot be read: ${reasonOf(cause)}`, PULL_AGAIN, { cause });
  });
  if (found.isFile() && found.size === sizeBytes) return;
  const what = found.isFile() ? `has ${found.size} bytes, but its manifest says ${sizeBytes}` : 'is not a regular file';
  throw new PrestageError('ERR_LAYOUT_BLOB', `${path} ${what}`, PULL_AGAIN);
}

/** Reads a file of the partition: only a regular file within the limit, never through a link. */
async function readPlain(path: string, limitBytes: number): Promise<Buffer> {
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw new PrestageError('ERR_LAYOUT', `${path} cannot be read: ${reasonOf(cause)}`, PULL_AGAIN, { cause });
    },
  );
  const found = await file.stat();
  if (found.isFile() && found.size <= limitBytes) return await file.readFile();
  throw new PrestageError('ERR_LAYOUT', `${path} is not a regular file of at most ${limitBytes} bytes (it has ${found.size})`, PULL_AGAIN);
}
