import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, hexOf } from '../../agent/model/digest.ts';
import { blobPath } from './image-layer.ts';
import { blobsOf, type MadeImage } from './images.ts';
import { POSIX_MAGIC, paxEntry, type TarEntry, tarEntry, tarStream } from './tar.ts';

/** An image as oc-mirror keeps it: under a path of its own, always by a tag. */
export interface MirroredImage {
  /** Without a host. */
  readonly repository: string;
  readonly tag: string;
  readonly image: MadeImage;
}

export interface MirrorFolder {
  /** Where the images' blobs lie. */
  readonly store: string;
  readonly images: readonly MirroredImage[];
  /** How many archives the blobs are spread over. */
  readonly archives: number;
  /** Blobs that an earlier run has written already. */
  readonly known?: ReadonlySet<Digest>;
  /** Other members, in the first archive behind the links; `working-dir/…`. */
  readonly members?: Readonly<Record<string, string>>;
}

const ROOT = 'docker/registry/v2';

/**
 * Writes what one run of oc-mirror writes: links of all repositories, the workspace and the configuration first, then the blobs that no earlier
 * run has written. Names beyond 100 characters are in pax headers, as Go's archive/tar writes them.
 * Source: openshift/oc-mirror, internal/pkg/archive/archive.go, BuildArchive.
 * @returns the paths of the archives
 */
export async function writeMirror(directory: string, folder: MirrorFolder): Promise<readonly string[]> {
  await mkdir(directory, { recursive: true });
  const texts = { ...linksOf(folder.images), 'working-dir/.history/.history-2024-01-01T00:00:00Z': '', ...folder.members };
  const files: Buffer[][] = Array.from({ length: folder.archives }, () => []);
  for (const [name, text] of Object.entries(texts)) files[0]?.push(mirrorEntry(name, Buffer.from(text)));
  const blobs = mirrorBlobs(folder.images).filter((digest) => !folder.known?.has(digest));
  for (const [index, digest] of blobs.entries()) {
    files[index % folder.archives]?.push(mirrorEntry(blobMember(digest), await readFile(blobPath(folder.store, digest))));
  }
  const paths = files.map((_, index) => join(directory, `mirror_${String(index + 1).padStart(6, '0')}.tar`));
  for (const [index, path] of paths.entries()) await writeFile(path, tarStream(files[index] ?? []));
  return paths;
}

/** Manifests, configs and layers of images, each once, in a fixed order. */
export function mirrorBlobs(images: readonly MirroredImage[]): readonly Digest[] {
  return [...new Set(images.flatMap(({ image }) => [...manifestsOf(image), ...blobsOf(image).map((blob) => blob.digest)]))];
}

export function blobMember(digest: Digest): string {
  return `${ROOT}/blobs/sha256/${hexOf(digest).slice(0, 2)}/${hexOf(digest)}/data`;
}

export function tagMember(repository: string, tag: string): string {
  return `${ROOT}/repositories/${repository}/_manifests/tags/${tag}/current/link`;
}

/** A regular file as Go's archive/tar writes it. */
export function mirrorEntry(name: string, content: Uint8Array, more: Partial<TarEntry> = {}): Buffer {
  if (name.length <= 100) return tarEntry({ name, content, magic: POSIX_MAGIC, ...more });
  return Buffer.concat([paxEntry({ path: name }), tarEntry({ name: name.slice(0, 100), content, magic: POSIX_MAGIC, ...more })]);
}

/** The link files of repositories by their names in the archive. */
export function linksOf(images: readonly MirroredImage[]): Readonly<Record<string, string>> {
  const entries = images.flatMap(({ repository, tag, image }) => {
    const home = `${ROOT}/repositories/${repository}`;
    const linked = (folder: string, digest: Digest): readonly [string, string] => [
      `${home}/${folder}/sha256/${hexOf(digest)}/link`,
      digest,
    ];
    return [
      ...blobsOf(image).map(({ digest }) => linked('_layers', digest)),
      ...manifestsOf(image).map((digest) => linked('_manifests/revisions', digest)),
      linked(`_manifests/tags/${tag}/index`, image.digest),
      [tagMember(repository, tag), image.digest] as const,
    ];
  });
  return Object.fromEntries(entries);
}

function manifestsOf(image: MadeImage): readonly Digest[] {
  return [...new Set([image.digest, ...image.instances.map(({ manifest }) => manifest.digest)])];
}
