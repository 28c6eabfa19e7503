import { lstat, mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { outputFile } from 'fs-extra/esm';
import pLimit from 'p-limit';
import { layoutBlobPath, layoutImage } from '../extract/oci-layout.ts';
import type { LayoutImage } from '../extract/payload.ts';
import { ifMissing } from '../host/files.ts';
import type { Host } from '../host/host.ts';
import { placeFile } from '../host/place.ts';
import { type Digest, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { treeBlobPath } from '../model/registry-path.ts';
import { type AttachedTree, listPath, NOTHING_ATTACHED, readAttachments } from './layout-attachments.ts';
import { type MadeTree, makeTree, refusal, sizeInTree, type Taken, type TreeRequest } from './node-tree.ts';
import type { TreeImage } from './registry-tree.ts';
import { requireRoom } from './tree-session.ts';

/**
 * Makes the tree of a registry from an OCI image layout: with links or reflinks if the layout is on the same file system, else with copies.
 * Every blob is hashed. A refused image does not stop the others.
 *
 * If the tree is already complete for these images, it is not made again.
 * @throws PrestageError ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE, ERR_INTERRUPTED
 */
export async function layoutTree(host: Host, request: TreeRequest<LayoutImage>): Promise<MadeTree> {
  const { images, parallel, signal, onProgress, to } = request;
  const key = JSON.stringify([
    'layout',
    ...images.map(({ layout, digest, names, attachments = [] }) => [layout, digest, names, ...attachments]),
  ]);
  return await makeTree(host, request, key, async (keeps) => {
    const read = new Map<LayoutImage, TreeImage>();
    const attached = new Map<LayoutImage, AttachedTree>();
    const refused = new Map<LayoutImage, Taken>();
    for (const image of images) {
      try {
        read.set(image, await treeImage(image, host.architecture));
        attached.set(image, await withoutFault(host, image, async () => await readAttachments(image)));
      } catch (error) {
        refused.set(image, refusal(image.reference, error));
      }
    }
    await requireRoom(to, await copiedBytes(read, attached, to));
    const limit = pLimit(parallel);
    const placed = new Map<Digest, Promise<void>>();
    let done = refused.size;
    return await Promise.all(
      images.map(async (image): Promise<Taken> => {
        const found = read.get(image);
        if (found === undefined) return refused.get(image) ?? refusal(image.reference, unreachable());
        try {
          const place = async (digest: Digest): Promise<void> => {
            const work = placed.get(digest) ?? limit(() => placeBlob(image.layout, digest, { ...request, keeps }));
            placed.set(digest, work);
            await work;
          };
          for (const digest of digestsOf(found)) await place(digest);
          const beside = attached.get(image) ?? NOTHING_ATTACHED;
          const whole = await withoutFault(host, image, async () => await placeAttachments(to, beside, place));
          signal.throwIfAborted();
          return { names: image.names, image: found, attached: whole.images };
        } catch (error) {
          return refusal(image.reference, error);
        } finally {
          onProgress?.(++done, images.length);
        }
      }),
    );
  });
}

/** If attachments of an image are damaged, the image is served without them. */
async function withoutFault(host: Host, { reference }: LayoutImage, work: () => Promise<AttachedTree>): Promise<AttachedTree> {
  try {
    return await work();
  } catch (error) {
    const refused = refusal(reference, error);
    if ('error' in refused) host.log('warning', `${reference} is served without its attachments: ${refused.error.message}`);
    return NOTHING_ATTACHED;
  }
}

async function placeAttachments(to: string, attached: AttachedTree, place: (digest: Digest) => Promise<void>): Promise<AttachedTree> {
  for (const { image } of attached.images) for (const digest of digestsOf(image)) if (!attached.lists.has(digest)) await place(digest);
  for (const [digest, text] of attached.lists) await outputFile(listPath(to, digest), text);
  return attached;
}

async function treeImage({ layout, digest }: LayoutImage, architecture: string): Promise<TreeImage> {
  const { manifestDigest, image } = await layoutImage(layout, digest, architecture);
  return { top: { digest }, manifest: manifestDigest, config: image.config.digest, layers: image.layers };
}

function digestsOf({ top, manifest, config, layers }: TreeImage): ReadonlySet<Digest> {
  return new Set([top.digest, manifest, config, ...layers.map((layer) => layer.digest)]);
}

/** Total size of the blobs that have to be copied, in bytes. */
async function copiedBytes(
  images: ReadonlyMap<LayoutImage, TreeImage>,
  attached: ReadonlyMap<LayoutImage, AttachedTree>,
  to: string,
): Promise<number> {
  const paths = new Set(
    [...images].flatMap(([image, found]) => {
      const beside = attached.get(image) ?? NOTHING_ATTACHED;
      const digests = [found, ...beside.images.map((one) => one.image)].flatMap((one) => [...digestsOf(one)]);
      return digests.filter((digest) => !beside.lists.has(digest)).map((digest) => layoutBlobPath(image.layout, digest));
    }),
  );
  const tree = await stat(to);
  // Missing blobs are reported when they are placed.
  const sizes = await Promise.all([...paths].map(async (path) => await lstat(path).catch(ifMissing(() => undefined))));
  return sizes
    .filter((file) => file !== undefined)
    .filter((file) => file.dev !== tree.dev)
    .reduce((total, file) => total + file.size, 0);
}

interface Placing extends Pick<TreeRequest<LayoutImage>, 'to' | 'pool' | 'signal'> {
  readonly keeps: boolean;
}

async function placeBlob(layout: string, digest: Digest, { to, pool, signal, keeps }: Placing): Promise<void> {
  const from = layoutBlobPath(layout, digest);
  const path = join(to, treeBlobPath(digest));
  const file = await lstat(from).catch(
    ifMissing(() => {
      throw otherBytes(from, 'is missing');
    }),
  );
  if (keeps && (await sizeInTree(to, digest)) === file.size) return;
  if (file.dev !== (await stat(to)).dev) {
    const blobs = [{ digest, at: 0, sizeBytes: file.size }];
    const { damaged } = await pool.fill({ path: from, to, blobs, links: [], keeps }, { signal });
    for (const { reason } of damaged) throw otherBytes(from, reason);
    return;
  }
  const { sha256 } = await pool.hash({ path: from }, { signal });
  if (sha256 !== hexOf(digest)) throw otherBytes(from, `has the digest sha256:${sha256}`);
  await mkdir(dirname(path), { recursive: true });
  await rm(path, { force: true });
  await placeFile(from, path);
}

function otherBytes(path: string, reason: string): PrestageError {
  return new PrestageError('ERR_LAYOUT_BLOB', `${path} ${reason}`, 'Pull the images again: complete blobs are kept');
}

function unreachable(): PrestageError {
  return new PrestageError('ERR_INTERNAL', 'an image was neither read nor refused', 'Report this bug');
}
