import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { readPlainFile } from '../host/plain-file.ts';
import { removeTrees } from '../host/remove-tree.ts';
import { type Digest, digestOf, hexOf } from '../model/digest.ts';
import { messageOf } from '../model/errors.ts';
import { type ImageManifest, type IndexManifest, instanceFor, MANIFEST_LIMIT_BYTES, parseManifest } from '../model/manifest.ts';
import { treeBlobPath, treeRepositoryPath } from '../model/registry-path.ts';
import { besideInTree } from './tree-attachments.ts';
import type { ServedImage } from './tree-images.ts';

/** What an image of a tree lacks. */
export interface MissingBlob {
  /** `repository:tag`, or `repository@digest` where no tag leads to it. */
  readonly image: string;
  readonly digest: Digest;
  readonly part: 'manifest' | 'config' | 'layer';
}

/** What was found of the images of a tree. */
export interface TreeFacts {
  /** Manifests that are there with the right bytes; as text what is wrong with one that cannot be read as a manifest. */
  readonly manifests: ReadonlyMap<Digest, ImageManifest | IndexManifest | string>;
  /** Sizes of configs and layers that are there, by digest. */
  readonly sizes: ReadonlyMap<Digest, number>;
}

/** Files that are looked at at one time. */
const PARALLEL = 16;

/**
 * What images lack. Of a list, the image for the architecture must be whole; lists may leave out others, as oc-mirror does where it is told the
 * platforms, and images of others stand for themselves. Pure.
 * @param architecture GOARCH name
 */
export function missingBlobs(images: readonly ServedImage[], facts: TreeFacts, architecture: string): readonly MissingBlob[] {
  return images.flatMap((image) => {
    const missing = new Map<Digest, MissingBlob>();
    const note = (digest: Digest, part: MissingBlob['part']): void => {
      missing.set(digest, { image: servedName(image), digest, part });
    };
    const follow = (digest: Digest, depth: number): void => {
      const manifest = facts.manifests.get(digest);
      if (manifest === undefined || typeof manifest === 'string') note(digest, 'manifest');
      else if (manifest.kind === 'index') {
        const own = instanceFor(manifest, architecture);
        // A list that names a list is nothing that an engine pulls, and could name itself.
        if (own !== undefined && depth === 0) follow(own.digest, 1);
      } else {
        if (facts.sizes.get(manifest.config.digest) !== manifest.config.sizeBytes) note(manifest.config.digest, 'config');
        for (const layer of manifest.layers) if (facts.sizes.get(layer.digest) !== layer.sizeBytes) note(layer.digest, 'layer');
      }
    };
    follow(image.digest, 0);
    return [...missing.values()];
  });
}

/** Reads the manifests of a tree's images, and looks for the blobs that they name. */
export async function readTreeFacts(root: string, images: readonly ServedImage[]): Promise<TreeFacts> {
  const limit = pLimit(PARALLEL);
  const manifests = new Map<Digest, ImageManifest | IndexManifest | string>();
  const wanted = new Set<Digest>(images.map((image) => image.digest));
  await Promise.all(
    [...wanted].map((digest) =>
      limit(async () => {
        const manifest = await readManifest(join(root, treeBlobPath(digest)), digest);
        if (manifest !== undefined) manifests.set(digest, manifest);
      }),
    ),
  );
  const blobs = new Set<Digest>();
  for (const manifest of manifests.values()) {
    if (typeof manifest === 'string' || manifest.kind === 'index') continue;
    for (const blob of [manifest.config, ...manifest.layers]) blobs.add(blob.digest);
  }
  const sizes = new Map<Digest, number>();
  await Promise.all(
    [...blobs].map((digest) =>
      limit(async () => {
        const found = await lstat(join(root, treeBlobPath(digest))).catch(() => undefined);
        if (found?.isFile()) sizes.set(digest, found.size);
      }),
    ),
  );
  return { manifests, sizes };
}

/**
 * Takes images out of a tree: the registry then says that it has no such manifest, and an engine asks the next mirror or the source. Of one
 * whose layers are missing it would take the manifest and fail. Its signatures and attachments go with it.
 */
export async function hideImages(root: string, images: readonly ServedImage[]): Promise<void> {
  const hidden = await Promise.all(
    images.map(async ({ repository, digest, tags }) => {
      const beside = await besideInTree(root, repository, digest);
      const manifests = join(root, treeRepositoryPath(repository), '_manifests');
      return [
        ...[...tags, ...beside.tags].map((tag) => join(manifests, 'tags', tag)),
        ...[digest, ...beside.manifests].map((one) => join(manifests, 'revisions/sha256', hexOf(one))),
      ];
    }),
  );
  await removeTrees(hidden.flat());
}

/** An image by a name that people know it by. */
export function servedName({ repository, tags, digest }: ServedImage): string {
  const [tag] = tags;
  return tag === undefined ? `${repository}@${digest}` : `${repository}:${tag}`;
}

async function readManifest(path: string, digest: Digest): Promise<ImageManifest | IndexManifest | string | undefined> {
  const bytes = await readPlainFile(path, MANIFEST_LIMIT_BYTES);
  if (bytes === undefined || digestOf(bytes) !== digest) return undefined;
  try {
    return parseManifest(bytes, path);
  } catch (error) {
    return messageOf(error);
  }
}
