import { lstat, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { TREE_SCRATCH } from '../extract/fill-tree.ts';
import type { Act } from '../host/acts.ts';
import { removeTemporaries } from '../host/atomic.ts';
import { readBootId } from '../host/boot.ts';
import type { Host } from '../host/host.ts';
import { holdsMounts } from '../host/mounts.ts';
import { removeTree, removeTrees } from '../host/remove-tree.ts';
import { spaceAt } from '../host/space.ts';
import { syncFileSystem } from '../host/sync.ts';
import { formatBytes } from '../model/bytes.ts';
import { type Digest, digestOfHex } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { TREE_ROOT } from '../model/registry-path.ts';
import { isTreeRoot, noteEnd, noteStart, readTreeState, type TreeKey } from './tree-record.ts';

export interface TreeSession {
  /** Root of the tree, which must belong to the agent alone. */
  readonly to: string;
  readonly key: TreeKey;
  readonly act: Act;
}

/** `done`: the tree is already complete for this key, and `result` is the recorded result. */
export type StartedTree =
  | { readonly kind: 'done'; readonly result: unknown }
  /** `keeps`: existing blobs can be trusted. */
  | { readonly kind: 'fill'; readonly keeps: boolean };

/** Space kept free for the rest of the machine. */
const RESERVE_BYTES = 64 * 2 ** 20;

/**
 * Begins to fill a tree. Everything that an interrupted start left is kept if the key is the same. For another key only the blobs are kept, since
 * their names are their digests.
 * @throws PrestageError ERR_REGISTRY_WRITE if the directory holds anything else
 */
export async function startTree(session: TreeSession): Promise<StartedTree> {
  const { to, key, act } = session;
  const bootId = await readBootId();
  const state = await readTreeState(to, bootId);
  if (state.kind === 'complete' && state.key === key) return { kind: 'done', result: state.result };
  if (!(await isTreeRoot(to)) || (await holdsMounts(to))) {
    throw new PrestageError(
      'ERR_REGISTRY_WRITE',
      `${to} contains other files than those of a registry`,
      'Move them to another place, then start the run again',
    );
  }
  await act('start-tree', async () => {
    await noteStart(to, key, bootId);
    await removeTemporaries(to);
    await removeTree(join(to, TREE_SCRATCH));
    await mkdir(join(to, TREE_SCRATCH), { mode: 0o700 });
    if (state.kind === 'none' || state.key !== key) await removeTree(join(to, TREE_ROOT, 'repositories'));
  });
  return { kind: 'fill', keeps: state.kind === 'complete' || (state.kind === 'started' && state.isKept) };
}

/** Completes a tree: removes unneeded blobs, syncs everything, and only then records that the tree is complete. */
export async function endTree(
  host: Host,
  session: TreeSession,
  content: { readonly blobs: ReadonlySet<Digest>; readonly result: unknown },
): Promise<void> {
  const { to, key, act } = session;
  await act('sync-tree', async () => {
    await removeOtherBlobs(to, content.blobs);
    await removeTree(join(to, TREE_SCRATCH));
    await syncFileSystem(host.exec, to);
  });
  await act('record-tree', async () => await noteEnd(to, key, content.result));
}

/**
 * Checks that there is room for the blobs to be written.
 * @param wantedBytes upper limit for the size of all blobs
 * @throws PrestageError ERR_SPACE_REGISTRY with both figures
 */
export async function requireRoom(to: string, wantedBytes: number): Promise<void> {
  const { freeBytes } = await spaceAt(to);
  // Untrusted blobs are replaced one by one, which frees their space.
  const thereBytes = await blobBytes(to);
  const neededBytes = Math.max(0, wantedBytes - thereBytes) + RESERVE_BYTES;
  if (freeBytes >= neededBytes) return;
  throw new PrestageError(
    'ERR_SPACE_REGISTRY',
    `${to} needs ${formatBytes(neededBytes)} for the files of the registry, but has ${formatBytes(freeBytes)} free`,
    'Free space on that file system, or build the bundle with --payload registry, which is served from the partition',
  );
}

async function blobBytes(to: string): Promise<number> {
  const files = await blobFiles(to);
  const sizes = await Promise.all(
    files.map(async ({ directory }) => (await lstat(join(directory, 'data')).catch(() => undefined))?.size ?? 0),
  );
  return sizes.reduce((total, size) => total + size, 0);
}

async function removeOtherBlobs(to: string, wanted: ReadonlySet<Digest>): Promise<void> {
  const others = (await blobFiles(to)).filter(({ digest }) => digest === undefined || !wanted.has(digest));
  await removeTrees(others.map(({ directory }) => directory));
}

async function blobFiles(to: string): Promise<readonly { readonly digest: Digest | undefined; readonly directory: string }[]> {
  const blobs = join(to, TREE_ROOT, 'blobs/sha256');
  const starts = await namesIn(blobs);
  const all = await Promise.all(
    starts.map(async (start) =>
      (await namesIn(join(blobs, start))).map((hex) => ({ digest: digestOfHex(hex), directory: join(blobs, start, hex) })),
    ),
  );
  return all.flat();
}

async function namesIn(directory: string): Promise<readonly string[]> {
  return await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}
