import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import * as v from 'valibot';
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
import { findAbsent, readAbsentInstances } from './absent-instances.ts';

/** The image of a layout for one architecture. */
export interface LayoutImage {
  /** Digest of the image's own manifest; that of the entry where there is no list. */
  readonly manifestDigest: Digest;
  readonly image: ImageManifest;
  /** Images that the list names; 1 without a list. */
  readonly instances: number;
  /** Of these, what the layout lacks. */
  readonly absent: readonly AbsentInstance[];
}

/** A config is JSON of some KB; one that is larger is not read. */
const CONFIG_LIMIT_BYTES = 4 * 1024 * 1024;
const configSchema = v.pipe(v.string(), v.parseJson(), v.object({ architecture: v.optional(v.string(), '') }));

const PULL_AGAIN = 'Pull the images again: what is whole is kept';

/** Where a blob lies below a directory. */
export type BlobPath = (directory: string, digest: Digest) => string;

/** Where a blob lies in a layout. Source: OCI image-spec, image-layout.md. */
export function layoutBlobPath(directory: string, digest: Digest): string {
  return join(directory, 'blobs/sha256', hexOf(digest));
}

/**
 * The entries of an OCI image layout that can be read.
 * @throws PrestageError ERR_LAYOUT where the directory is none or its index cannot be read
 */
export async function readOciLayout(directory: string): Promise<readonly OciEntry[]> {
  return (await readOciIndex(directory)).entries;
}

/**
 * The index of an OCI image layout.
 * @throws PrestageError ERR_LAYOUT where the directory is none or its index cannot be read
 */
export async function readOciIndex(directory: string): Promise<OciIndex> {
  const marker = join(directory, OCI_MARKER_FILE);
  const version = (await readPlain(marker, 4096)).toString('utf8');
  if (!/"imageLayoutVersion"\s*:\s*"1\./.test(version)) {
    throw new PrestageError('ERR_LAYOUT', `${marker} does not say that this is an OCI image layout of version 1`, PULL_AGAIN);
  }
  const index = join(directory, OCI_INDEX_FILE);
  return parseOciIndex((await readPlain(index, OCI_INDEX_LIMIT_BYTES)).toString('utf8'), index);
}

/**
 * The entries of a layout that are images by their names: signatures and attachments belong to the image whose digest their tag names, and are not
 * images of their own. Pure.
 */
export function imageEntries<T extends OciEntry>(entries: readonly T[]): readonly T[] {
  return entries.filter(({ reference, digest, mediaType }) => {
    const beside = besideImage(tagOf(reference), digest);
    return beside === undefined || (beside.kind === 'list' && mediaType !== OCI_INDEX_TYPE);
  });
}

/**
 * Those of the entries of a layout that are images by their names and their manifests: what names another manifest as its subject is attached to
 * that one. A manifest that cannot be read is left for whoever reads the image.
 */
export async function withoutAttached<T extends OciEntry>(directory: string, entries: readonly T[]): Promise<readonly T[]> {
  const found: T[] = [];
  for (const entry of imageEntries(entries)) {
    const bytes = await readPlain(layoutBlobPath(directory, entry.digest), MANIFEST_LIMIT_BYTES).catch(() => undefined);
    if (bytes === undefined || digestOf(bytes) !== entry.digest || !hasSubject(bytes)) found.push(entry);
  }
  return found;
}

/** The tag of a name in a layout, which can be the tag alone. */
function tagOf(name: string): string {
  return name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf(':')) + 1);
}

/**
 * A manifest of a layout, its bytes held against its digest.
 * @throws PrestageError ERR_LAYOUT where there is no such blob, ERR_LAYOUT_BLOB for other bytes, ERR_MANIFEST
 */
async function readLayoutManifest(
  directory: string,
  digest: Digest,
  pathOf: BlobPath = layoutBlobPath,
): Promise<ImageManifest | IndexManifest> {
  const path = pathOf(directory, digest);
  const bytes = await readPlain(path, MANIFEST_LIMIT_BYTES);
  const actual = digestOf(bytes);
  if (actual !== digest) throw new PrestageError('ERR_LAYOUT_BLOB', `${path} has the bytes of ${actual}`, PULL_AGAIN);
  return parseManifest(bytes, path);
}

/**
 * The image of a layout for an architecture. The bytes of the manifests are verified, of config and layers only that they are there in
 * their size.
 * @param digest of the entry
 * @param architecture GOARCH name
 * @throws PrestageError ERR_LAYOUT, ERR_LAYOUT_BLOB, ERR_MANIFEST, ERR_ARCHITECTURE, ERR_NOT_IMAGE
 */
export async function layoutImage(directory: string, digest: Digest, architecture: string): Promise<LayoutImage> {
  const top = await readLayoutManifest(directory, digest);
  if (top.kind === 'image') {
    refuseOther(layoutBlobPath(directory, digest), top);
    await requireBlobs(directory, top);
    return { manifestDigest: digest, image: top, instances: 1, absent: [] };
  }
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
  refuseOther(layoutBlobPath(directory, chosen.digest), image);
  await requireBlobs(directory, image);
  return { manifestDigest: chosen.digest, image, instances: top.instances.length, absent };
}

/**
 * A list of a layout, and what it names that the layout lacks; undefined for what is not a list.
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
 * Shows an image of a layout as a `dir:` layout of symbolic links, so that skopeo can copy it: skopeo's own `oci:` does not find entries
 * with Docker's media types (1.9.3: "no descriptor found for reference"), and most images of a release have those. Manifests that a list
 * names and the layout lacks are left out, as a copy without the other platforms leaves them out.
 * Source: containers/image, directory/directory_transport.go; oci/layout/oci_transport.go, getManifestDescriptor.
 * @param to directory that is made, or an empty one
 * @param pathOf for what has blobs in other places than a layout, such as a registry's tree
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

/**
 * The architecture that the config of an image names; undefined if it names none, or cannot be read: what loads the image tells that.
 * Source: OCI image-spec, config.md.
 */
export async function configArchitecture(directory: string, config: Descriptor): Promise<string | undefined> {
  const bytes = await readPlain(layoutBlobPath(directory, config.digest), CONFIG_LIMIT_BYTES).catch(() => undefined);
  if (bytes === undefined || digestOf(bytes) !== config.digest) return undefined;
  const parsed = v.safeParse(configSchema, bytes.toString('utf8'));
  return parsed.success && parsed.output.architecture !== '' ? parsed.output.architecture : undefined;
}

/** A mirror that was filled with some platforms answers for the list, and not for the images of the others. What `pull` brought is known to have been there. */
export async function absentInstance(directory: string, list: Digest, instance: Digest, architecture: string): Promise<PrestageError> {
  const recorded = (await readAbsentInstances(directory)).get(list);
  if (recorded !== undefined && !recorded.some((one) => one.digest === instance)) {
    const path = layoutBlobPath(directory, instance);
    return new PrestageError('ERR_LAYOUT_BLOB', `${path}, the image of the list ${list} for linux/${architecture}, is missing`, PULL_AGAIN);
  }
  return new PrestageError(
    'ERR_ARCHITECTURE',
    `${directory}: the list ${list} names ${instance} for linux/${architecture}, which is not there: where the list came from may not have it`,
    `Pull it from a source that has the image for linux/${architecture}, or take it off the list`,
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

function refuseOther(path: string, image: ImageManifest): void {
  const what = notImage(image);
  if (what !== undefined) throw notImageError(path, what);
}

async function requireBlobs(directory: string, image: ImageManifest): Promise<void> {
  for (const blob of [image.config, ...image.layers]) await requireBlob(directory, blob);
}

async function requireBlob(directory: string, { digest, sizeBytes }: Pick<Descriptor, 'digest' | 'sizeBytes'>): Promise<void> {
  const path = layoutBlobPath(directory, digest);
  const found = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_LAYOUT', `${path} cannot be read: ${cause.code ?? cause.message}`, PULL_AGAIN, { cause });
  });
  if (found.isFile() && found.size === sizeBytes) return;
  const what = found.isFile() ? `has ${found.size} bytes, and its manifest says ${sizeBytes}` : 'is no plain file';
  throw new PrestageError('ERR_LAYOUT_BLOB', `${path} ${what}`, PULL_AGAIN);
}

/** A file of the partition: a plain one within the limit, never through a link. */
async function readPlain(path: string, limitBytes: number): Promise<Buffer> {
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw new PrestageError('ERR_LAYOUT', `${path} cannot be read: ${cause.code ?? cause.message}`, PULL_AGAIN, { cause });
    },
  );
  const found = await file.stat();
  if (found.isFile() && found.size <= limitBytes) return await file.readFile();
  throw new PrestageError('ERR_LAYOUT', `${path} is no plain file of at most ${limitBytes} bytes (it has ${found.size})`, PULL_AGAIN);
}
