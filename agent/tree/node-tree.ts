import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import type { ArchivePool } from '../extract/pool.ts';
import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { type Digest, isDigest } from '../model/digest.ts';
import { type ErrorCode, type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { treeBlobPath } from '../model/registry-path.ts';
import { errorRecordSchema } from '../model/schemas.ts';
import { type NamedTreeImage, registryTree } from './registry-tree.ts';
import { endTree, startTree } from './tree-session.ts';

/** How the tree of a registry is made on a node. */
export interface TreeRequest<Image> {
  readonly images: readonly Image[];
  /** Root of the tree, which must belong to the agent alone. It is created. */
  readonly to: string;
  readonly pool: ArchivePool;
  /** Number of images processed at one time. */
  readonly parallel: number;
  readonly act: Act;
  readonly signal: AbortSignal;
  readonly onProgress?: (done: number, of: number) => void;
}

/** Result of making a tree. */
export interface MadeTree {
  /** Number of images served, each under all its names. */
  readonly images: number;
  readonly refused: readonly { readonly reference: string; readonly error: ErrorRecord }[];
  readonly blobs: number;
  /** Total size of these blobs, in bytes. */
  readonly bytes: number;
}

const resultSchema = v.object({
  images: v.number(),
  refused: v.array(
    v.object({
      reference: v.string(),
      error: errorRecordSchema,
    }),
  ),
  blobs: v.number(),
  bytes: v.number(),
});
/** Number of links that a thread writes in one job. */
const LINKS_AT_ONCE = 512;

/** Result for one image: in the tree with its attachments, or refused. */
export type Taken =
  | (NamedTreeImage & { readonly attached?: readonly NamedTreeImage[] })
  | { readonly reference: string; readonly error: ErrorRecord };

/**
 * Makes a tree, unless it is already complete for the same images.
 * @param key identifies the state of the source
 * @param fill writes the blobs of the images, and returns the result for each image
 */
export async function makeTree<Image>(
  host: Host,
  request: TreeRequest<Image>,
  key: string,
  fill: (keeps: boolean) => Promise<readonly Taken[]>,
): Promise<MadeTree> {
  const { to, act, pool, signal } = request;
  const session = { to, act, key };
  const started = await startTree(session);
  if (started.kind === 'done') {
    const recorded = v.safeParse(resultSchema, started.result);
    if (recorded.success) return recorded.output;
  }
  const taken = await act('fill-tree', async () => {
    const images = await fill(started.kind === 'fill' && started.keeps);
    await writeLinks(to, withAttached(images), { pool, signal });
    return images;
  });
  const images = taken.filter((one) => 'names' in one);
  const blobs = new Set(registryTree(withAttached(taken), 'all').flatMap((file) => ('blob' in file ? [file.blob] : [])));
  const sizes = await Promise.all([...blobs].map(async (digest) => (await sizeInTree(to, digest)) ?? 0));
  const result = {
    images: images.length,
    refused: taken.filter((one) => 'error' in one),
    blobs: blobs.size,
    bytes: sizes.reduce((total, size) => total + size, 0),
  };
  await endTree(host, session, { blobs, result });
  return result;
}

function withAttached(taken: readonly Taken[]): readonly NamedTreeImage[] {
  return taken.flatMap((one) => ('names' in one ? [one, ...(one.attached ?? [])] : []));
}

/** The result for an image that failed. Errors that affect all images are thrown again. */
export function refusal(reference: string, error: unknown): Taken {
  if (error instanceof PrestageError && !STOPPING.has(error.code)) return { reference, error: errorRecord(error) };
  throw error;
}

/** Size of a blob in the tree, in bytes; undefined if it is missing. */
export async function sizeInTree(to: string, digest: Digest): Promise<number | undefined> {
  if (!isDigest(digest)) return undefined;
  const found = await lstat(join(to, treeBlobPath(digest))).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

const STOPPING: ReadonlySet<ErrorCode> = new Set([
  'ERR_SPACE_REGISTRY',
  'ERR_REGISTRY_WRITE',
  'ERR_INTERRUPTED',
  'ERR_ARCHIVE_WRITE',
  'ERR_INTERNAL',
]);

async function writeLinks(
  to: string,
  images: readonly NamedTreeImage[],
  { pool, signal }: { readonly pool: ArchivePool; readonly signal: AbortSignal },
): Promise<void> {
  const links = registryTree(images, 'all').flatMap((file) =>
    'text' in file && isDigest(file.text) ? [{ path: file.path, digest: file.text }] : [],
  );
  for (let from = 0; from < links.length; from += LINKS_AT_ONCE) {
    const job = { path: to, to, blobs: [], links: links.slice(from, from + LINKS_AT_ONCE), keeps: true };
    await pool.fill(job, { signal });
  }
}
