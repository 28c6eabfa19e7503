import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { readPlatform } from '../extract/image-platform.ts';
import { readPlainFile } from '../host/plain-file.ts';
import { removeTrees } from '../host/remove-tree.ts';
import { type Digest, digestOf, hexOf } from '../model/digest.ts';
import { messageOf } from '../model/errors.ts';
import { type ImageManifest, type IndexManifest, instanceFor, MANIFEST_LIMIT_BYTES, parseManifest } from '../model/manifest.ts';
import { notImage } from '../model/manifest-content.ts';
import { treeBlobPath, treeRepositoryPath } from '../model/registry-path.ts';
import { besideInTree } from './tree-attachments.ts';
import type { ServedImage } from './tree-images.ts';

/** A blob that an image of a tree lacks. */
export interface MissingBlob {
  /** `repository:tag`, or `repository@digest` if it has no tag. */
  readonly image: string;
  readonly digest: Digest;
  readonly part: 'manifest' | 'config' | 'layer';
}

/** Facts about the images of a tree. */
export interface TreeFacts {
  /** Manifests that exist and match their digest. A text instead says why the file cannot be parsed as a manifest. */
  readonly manifests: ReadonlyMap<Digest, ImageManifest | IndexManifest | string>;
  /** Sizes of the existing configs and layers, by digest. */
  readonly sizes: ReadonlyMap<Digest, number>;
}

/** Number of files checked at one time. */
const PARALLEL = 16;

/**
 * Finds the blobs that images lack. In a manifest list, the image for the architecture must be complete. Others may be missing, since oc-mirror can be
 * limited to some platforms; if they are there, they are checked as images of their own. Pure.
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
        // Engines do not pull a list within a list; it could also name itself.
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

/** Reads the manifests of the images of a tree, and finds the blobs that they name. */
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
 * The manifests of a tree that are not images for Linux: charts, signatures, attestations, other artifacts, images for Windows. The registry serves
 * them as they are, and no stage needs them.
 */
export async function findOthers(root: string, { manifests }: Pick<TreeFacts, 'manifests'>): Promise<ReadonlySet<Digest>> {
  const limit = pLimit(PARALLEL);
  const isOther = async (manifest: ImageManifest | IndexManifest): Promise<boolean> => {
    const config = manifest.kind === 'image' ? manifest.config : undefined;
    const { os } = config === undefined ? { os: '' } : await readPlatform(join(root, treeBlobPath(config.digest)), config);
    return notImage(manifest, os) !== undefined;
  };
  const found = await Promise.all(
    [...manifests].map(([digest, manifest]) =>
      limit(async () => (typeof manifest !== 'string' && (await isOther(manifest)) ? [digest] : [])),
    ),
  );
  return new Set(found.flat());
}

/**
 * Removes images from a tree, with their signatures and attachments. The registry then answers that it has no such manifest, and engines ask the next
 * mirror or the source. If layers were missing, an engine would accept the manifest and then fail.
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

/** Name of an image for people. */
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
