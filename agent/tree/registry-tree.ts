import { type Digest, hexOf } from '../model/digest.ts';
import { parseReference } from '../model/reference.ts';
import { registryRepository, treeBlobPath, treeRepositoryPath } from '../model/registry-path.ts';
import type { TreeFile } from './tree-files.ts';

/** The parts of an image that the tree of a registry needs. */
export interface TreeImage {
  /** The manifest, or the manifest list, that its names lead to. */
  readonly top: { readonly digest: Digest };
  /** The manifest of the image itself; equals `top` if there is no manifest list. */
  readonly manifest: Digest;
  readonly config: Digest;
  readonly layers: readonly { readonly digest: Digest }[];
}

/** An image and its full references. */
export interface NamedTreeImage {
  readonly names: readonly string[];
  readonly image: TreeImage;
}

/**
 * The files of a registry that serves the images, in the layout of distribution: each blob once, and for each repository links to its manifests by
 * digest and by tag, and to its layers and configs. Sorted by path. Pure.
 *
 * `metadata` leaves out the layers: an engine that already has all layers in a store asks only for the rest.
 * Source: github.com/distribution/distribution, registry/storage/paths.go.
 */
export function registryTree(images: readonly NamedTreeImage[], content: 'all' | 'metadata'): readonly TreeFile[] {
  const files = images.flatMap(({ names, image }) => [
    ...blobsOf(image)
      .filter((digest) => content === 'all' || !isLayer(image, digest))
      .map((digest) => ({ path: treeBlobPath(digest), blob: digest })),
    ...names.flatMap((name) => repositoryFiles(name, image, content)),
  ]);
  const byPath = new Map(files.map((file) => [file.path, file]));
  return [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function repositoryFiles(name: string, image: TreeImage, content: 'all' | 'metadata'): readonly TreeFile[] {
  const reference = parseReference(name);
  const repository = treeRepositoryPath(registryRepository(reference));
  const blobs = [image.config, ...(content === 'all' ? image.layers.map((layer) => layer.digest) : [])];
  const tagged = reference.tag === undefined ? undefined : `${repository}/_manifests/tags/${reference.tag}`;
  return [
    ...[image.top.digest, image.manifest].map((digest) => linkFile(`${repository}/_manifests/revisions`, digest)),
    ...blobs.map((digest) => linkFile(`${repository}/_layers`, digest)),
    ...(tagged === undefined
      ? []
      : [{ path: `${tagged}/current/link`, text: image.top.digest }, linkFile(`${tagged}/index`, image.top.digest)]),
  ];
}

function blobsOf(image: TreeImage): readonly Digest[] {
  return [...new Set([image.top.digest, image.manifest, image.config, ...image.layers.map((layer) => layer.digest)])];
}

function isLayer(image: TreeImage, digest: Digest): boolean {
  return image.layers.some((layer) => layer.digest === digest);
}

function linkFile(directory: string, digest: Digest): TreeFile {
  return { path: `${directory}/sha256/${hexOf(digest)}/link`, text: digest };
}
