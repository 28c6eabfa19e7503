import { existsSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { manifestBytes, readBundle } from '../bundle/read-bundle.ts';
import type { StoreBundle } from '../bundle/stage-bundle.ts';
import { TREE_SCRATCH } from '../extract/fill-tree.ts';
import { createArchivePool } from '../extract/pool.ts';
import { type Host, hostPath } from '../host/host.ts';
import { makePrivateDirectory } from '../host/private-directory.ts';
import { removeTree } from '../host/remove-tree.ts';
import { spaceAt } from '../host/space.ts';
import { syncFileSystem } from '../host/sync.ts';
import type { RunContext } from '../load/context.ts';
import { BUNDLE_FILE } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { DISK_BUNDLE_PATH } from '../model/places.ts';
import { reasonOf } from '../model/system-error.ts';
import type { SignedImage } from '../signatures/bundle-signatures.ts';
import { type OsTree, osTreeFault, splitOsTree } from '../tree/os-tree.ts';
import { checkLimits, copySealedFiles } from '../tree/sealed-files.ts';
import { keepSignatures } from './keep-signatures.ts';

/** The parts of a bundle with a store that are kept. */
type KeptParts = Pick<StoreBundle, 'directory' | 'sealedSha256'> & {
  readonly images: readonly SignedImage[];
  readonly store: Pick<StoreBundle['store'], 'mirror' | 'osTree'>;
};

/**
 * Keeps on the disk what a store image that was copied there also needs: the bundle's manifest, its GPG signatures, the metadata tree and the
 * operating systems served with it. Copies only files that the manifest lists, with the size and the hash that it lists. The partition is then no
 * longer needed. The copy is checked each time it is used, like the partition.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_BUNDLE_PIN, ERR_SPACE_STORE
 */
export async function keepBundle(
  { directory, sealedSha256, images, store }: KeptParts,
  { host, act, stop }: Pick<RunContext, 'host' | 'act' | 'stop'>,
): Promise<void> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (sealedSha256 === undefined) return;
  const { mirror, osTree } = store;
  if ((await keptBundle(host, sealedSha256)) !== undefined) {
    // An earlier version of the agent kept bundles without operating systems. They cannot be copied from the kept bundle itself.
    const keptTree = osTree === undefined ? undefined : { ...osTree, path: join(path, relative(directory, osTree.path)) };
    if (keptTree === undefined || directory === path || (await osTreeFault(keptTree)) === undefined) return;
  }
  checkLimits({ from: mirror.path, files: mirror.files });
  await act('keep-bundle', async () => {
    const partial = `${path}.new`;
    await removeTree(partial);
    await makePrivateDirectory(partial);
    const files = { from: mirror.path, files: mirror.files, signal: stop };
    await copySealedFiles(join(partial, relative(directory, mirror.path)), files, noRoom);
    if (osTree !== undefined) await keepOsTree(join(partial, relative(directory, osTree.path)), osTree, { host, stop });
    await keepSignatures({ from: directory, to: partial, noRoom }, images);
    await writeFile(join(partial, BUNDLE_FILE), await manifestBytes(directory, sealedSha256)).catch((cause: unknown) => {
      throw noRoom(join(partial, BUNDLE_FILE), cause);
    });
    await syncFileSystem(host.exec, partial);
    await removeTree(path);
    await rename(partial, path);
    await syncFileSystem(host.exec, dirname(path));
  });
}

/** Copies a tree of operating systems. Threads copy the layers, and give a blob its name only if it has that digest. */
async function keepOsTree(to: string, tree: OsTree, { host, stop }: Pick<RunContext, 'host' | 'stop'>): Promise<void> {
  const { small, large } = splitOsTree(tree.files);
  const fault = await osTreeFault(tree);
  if (fault !== undefined) throw fault;
  await mkdir(join(to, TREE_SCRATCH), { recursive: true });
  const neededBytes = large.reduce((total, file) => total + file.sizeBytes, 0);
  const { freeBytes } = await spaceAt(to);
  if (freeBytes < neededBytes) {
    throw noRoom(to, new Error(`the operating system needs ${formatBytes(neededBytes)}, but only ${formatBytes(freeBytes)} is free`));
  }
  checkLimits({ from: tree.path, files: small });
  await copySealedFiles(to, { from: tree.path, files: small, signal: stop }, noRoom);
  await using pool = createArchivePool({ size: host.cores, log: host.log });
  for (const { path, sha256, sizeBytes } of large) {
    const from = join(tree.path, path);
    const blobs = [{ digest: `sha256:${sha256}`, at: 0, sizeBytes }] as const;
    const { damaged } = await pool.fill({ path: from, to, blobs, links: [], keeps: false }, { signal: stop });
    for (const { reason } of damaged) {
      throw new PrestageError(
        'ERR_BUNDLE_FILE',
        `${from} ${reason}`,
        'Write the bundle to the partition again; if it fails again, replace the disk',
      );
    }
  }
  await removeTree(join(to, TREE_SCRATCH));
}

function noRoom(path: string, cause: unknown): PrestageError {
  if (cause instanceof PrestageError) return cause;
  return new PrestageError(
    'ERR_SPACE_STORE',
    `${path}, which the store image on the disk needs, cannot be written: ${reasonOf(cause)}`,
    'Free space below /var/lib/prestage-agent, or give --placement partition',
    { cause },
  );
}

/** The kept bundle; undefined if there is none that can be used. */
export async function keptBundle(host: Host, pinnedSha256: string | undefined): Promise<string | undefined> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (!existsSync(path)) return undefined;
  return await readBundle(path, pinnedSha256).then(
    () => path,
    () => undefined,
  );
}

/** Removes the kept bundle, because the store image is no longer on the disk. */
export async function forgetBundle({ host, act }: RunContext): Promise<void> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (existsSync(path)) await act('forget-bundle', async () => await removeTree(path));
}
