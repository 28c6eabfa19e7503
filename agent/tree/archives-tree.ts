import { chmod, mkdir, readdir, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import type { ArchivedImage } from '../extract/archives.ts';
import { TREE_SCRATCH } from '../extract/fill-tree.ts';
import type { Survey } from '../extract/survey-archive.ts';
import type { Host } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { type Digest, digestOfHex } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { notImageError } from '../model/manifest-content.ts';
import { treeBlobPath } from '../model/registry-path.ts';
import { type MadeTree, makeTree, refusal, sizeInTree, type Taken, type TreeRequest } from './node-tree.ts';
import { requireRoom } from './tree-session.ts';

/**
 * Makes the tree of a registry from archives, one `.tgz` for each image. Every blob is hashed while it is unpacked, and is written once. A manifest
 * list is kept with its image for this machine only. A refused archive does not stop the others.
 *
 * If the tree is already complete for these archives (same paths, sizes and times), it is not made again.
 * @throws PrestageError ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE, ERR_ARCHIVE_WRITE, ERR_INTERRUPTED
 */
export async function archivesTree(host: Host, request: TreeRequest<ArchivedImage>): Promise<MadeTree> {
  const { images, to } = request;
  const key = JSON.stringify([
    'archives',
    ...images.map(({ archive, names }) => [archive.path, archive.sizeBytes, archive.modifiedMs, names]),
  ]);
  return await makeTree(host, request, key, async (keeps) => {
    await requireRoom(
      to,
      images.reduce((total, image) => total + image.archive.sizeBytes, 0),
    );
    const context: Context = { ...request, architecture: host.architecture, keeps, made: new Set() };
    const claimed = new Set<Digest>();
    const first = await takeAll(images, context, async (image, survey) => {
      const layers = layersOf(survey).filter((digest) => !claimed.has(digest));
      for (const digest of layers) claimed.add(digest);
      await unpack(image, survey, layers, context);
    });
    // If the archive that should bring a layer was refused, another archive with that layer brings it now.
    return await Promise.all(
      first.map(async ({ image, taken, survey }) => {
        if (survey === undefined || 'error' in taken) return taken;
        try {
          await unpack(image, survey, layersOf(survey), context);
          return taken;
        } catch (error) {
          return refusal(image.reference, error);
        }
      }),
    );
  });
}

interface Context extends TreeRequest<ArchivedImage> {
  readonly architecture: string;
  readonly keeps: boolean;
  /** Blobs written so far. */
  readonly made: Set<Digest>;
}

interface TakenImage {
  readonly image: ArchivedImage;
  readonly taken: Taken;
  readonly survey: Survey | undefined;
}

async function takeAll(
  images: readonly ArchivedImage[],
  context: Context,
  take: (image: ArchivedImage, survey: Survey) => Promise<void>,
): Promise<readonly TakenImage[]> {
  const { pool, parallel, signal, architecture, onProgress } = context;
  const limit = pLimit(parallel);
  let done = 0;
  return await Promise.all(
    images.map((image) =>
      limit(async (): Promise<TakenImage> => {
        try {
          const survey = await pool.survey({ path: image.archive.path, name: image.archive.name, architecture }, { signal });
          assertHolds(image, survey);
          await take(image, survey);
          const { topDigest, imageDigest } = survey;
          const { config, layers } = survey.image;
          const tree = { top: { digest: topDigest }, manifest: imageDigest, config: config.digest, layers };
          return { image, survey, taken: { names: image.names, image: tree } };
        } catch (error) {
          return { image, survey: undefined, taken: refusal(image.reference, error) };
        } finally {
          onProgress?.(++done, images.length);
        }
      }),
    ),
  );
}

/** Unpacks the manifests, the config and the wanted layers that the tree lacks; does nothing if it lacks none. */
async function unpack(image: ArchivedImage, survey: Survey, layers: readonly Digest[], context: Context): Promise<void> {
  const { pool, to, signal, architecture } = context;
  const { path, name } = image.archive;
  const lacking = await lackingOf([survey.topDigest, survey.imageDigest, survey.image.config.digest, ...layers], context);
  if (lacking.length === 0) return;
  const scratch = join(to, TREE_SCRATCH, `archive-${context.images.indexOf(image)}`);
  await removeTree(scratch);
  await mkdir(scratch);
  try {
    const writeBlobs = layers.filter((digest) => lacking.includes(digest));
    const unpacked = await pool.unpack({ path, name, architecture, writeBlobs, layers: survey.image.layers, to: scratch }, { signal });
    if (unpacked.notImage !== undefined) throw notImageError(path, unpacked.notImage);
    const { topDigest } = unpacked;
    for (const file of await readdir(scratch)) {
      const digest = file === 'manifest.json' ? topDigest : digestOfHex(file.replace(/\.manifest\.json$/, ''));
      if (digest === undefined) continue;
      await chmod(join(scratch, file), 0o644);
      await mkdir(dirname(join(to, treeBlobPath(digest))), { recursive: true });
      await rename(join(scratch, file), join(to, treeBlobPath(digest)));
      context.made.add(digest);
    }
  } catch (error) {
    if (!(error instanceof PrestageError) || error.code !== 'ERR_SPACE_SCRATCH') throw error;
    throw new PrestageError(
      'ERR_SPACE_REGISTRY',
      `${to}: no space left for the files of the registry`,
      'Free space on that file system, then start the run again: complete files are kept',
      { cause: error },
    );
  } finally {
    await removeTree(scratch);
  }
}

async function lackingOf(digests: readonly Digest[], { to, keeps, made }: Context): Promise<readonly Digest[]> {
  const found = await Promise.all(
    digests.map(async (digest) => made.has(digest) || (keeps && (await sizeInTree(to, digest)) !== undefined)),
  );
  return digests.filter((_, index) => found[index] !== true);
}

function layersOf(survey: Survey): readonly Digest[] {
  return [...new Set(survey.image.layers.map((layer) => layer.digest))];
}

/** The archive must hold the digest of its reference, or the one in the manifest of the bundle. */
function assertHolds({ archive, digest, reference }: ArchivedImage, { topDigest, imageDigest }: Survey): void {
  if (digest === undefined || digest === topDigest || digest === imageDigest) return;
  throw new PrestageError(
    'ERR_ARCHIVE_REFERENCE',
    `${archive.path} holds ${topDigest}, but ${reference} must be ${digest}`,
    'Write the archive again at the factory',
  );
}
