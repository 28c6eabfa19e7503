import { rmdir } from 'node:fs/promises';
import { PrestageError } from '../model/errors.ts';
import { quote } from './exec.ts';
import type { Host } from './host.ts';
import { kernelSaid } from './kernel-reason.ts';
import { canonical, readMounts } from './mount-table.ts';
import { makePrivateDirectory } from './private-directory.ts';

/** A mounted file system. Disposing of the lease unmounts it; it never deletes anything except its own empty mount point. */
export interface MountLease extends AsyncDisposable {
  /** Where the file system is mounted. */
  readonly path: string;
}

export interface MountRequest {
  readonly device: string;
  readonly fileSystem: string;
  /** Absolute path of the mount point; created if missing, private to root. */
  readonly target: string;
}

/** Number of unmount attempts, and pause between them: a scanner or a shell can hold the file system for a moment. */
const UNMOUNT_TRIES = 10;
const UNMOUNT_PAUSE_MS = 300;
/** File systems with a journal; others (iso9660, squashfs) refuse journal options. */
const JOURNALLED = new Set(['xfs', 'ext4']);

/**
 * Mounts a device read-only, nosuid, nodev, noexec, and without replaying its journal (`norecovery`; xfs(5), ext4(5)): with `ro` alone, XFS
 * writes to its log even if the log is clean, and the bytes of the partition must not change. Digests decide which files can be used.
 * @throws PrestageError ERR_PARTITION_MOUNT
 */
export async function mountReadOnly(host: Host, request: MountRequest): Promise<MountLease> {
  const { fileSystem, target } = request;
  await makePrivateDirectory(target);
  const mounted = await mount(host, request, `ro,nosuid,nodev,noexec${JOURNALLED.has(fileSystem) ? ',norecovery' : ''}`);
  if (mounted.exitCode !== 0) throw await notMounted(host, request, mounted.stderr);
  return { path: target, [Symbol.asyncDispose]: async () => await unmount(host, target) };
}

/**
 * Mounts a device for writing, nosuid, nodev, noexec.
 * @throws PrestageError ERR_PARTITION_MOUNT
 */
export async function mountWritable(host: Host, request: MountRequest): Promise<MountLease> {
  const { target } = request;
  await makePrivateDirectory(target);
  const result = await mount(host, request, 'rw,nosuid,nodev,noexec');
  if (result.exitCode !== 0) throw await notMounted(host, request, result.stderr);
  return { path: target, [Symbol.asyncDispose]: async () => await unmount(host, target) };
}

async function notMounted(host: Host, { device, fileSystem, target }: MountRequest, stderr: string): Promise<PrestageError> {
  await removeMountPoint(target);
  const check = fileSystem === 'xfs' ? `xfs_repair -n ${device}` : `e2fsck -n ${device}`;
  return new PrestageError(
    'ERR_PARTITION_MOUNT',
    `${device} (${fileSystem}) cannot be mounted at ${target}: ${quote(stderr)}${await kernelSaid(host, device)}`,
    `Check the file system from a rescue shell: ${check}; then write the partition again`,
  );
}

/**
 * Unmounts the target and removes the empty mount point, which a killed process may also have left without a mount.
 * @throws PrestageError ERR_PARTITION_BUSY if it remains in use
 */
export async function unmount(host: Host, target: string): Promise<void> {
  let stderr = '';
  for (let attempt = 0; attempt < UNMOUNT_TRIES && (await isMountPoint(target)); attempt++) {
    if (attempt > 0) await host.clock.sleep(UNMOUNT_PAUSE_MS);
    stderr = (await host.exec('umount', [target])).stderr;
  }
  if (await isMountPoint(target)) {
    throw new PrestageError(
      'ERR_PARTITION_BUSY',
      `${target} cannot be unmounted: ${quote(stderr)}`,
      `Find the processes that use it with: fuser -vm ${target}`,
    );
  }
  await removeMountPoint(target);
}

/** Whether something is mounted at exactly this path. */
async function isMountPoint(path: string): Promise<boolean> {
  return (await mountPoints()).includes(await canonical(path));
}

/** Whether something is mounted at or below this path, including paths through symbolic links. */
export async function holdsMounts(path: string): Promise<boolean> {
  const real = await canonical(path);
  return (await mountPoints()).some((point) => point === real || point.startsWith(`${real}/`));
}

async function mountPoints(): Promise<readonly string[]> {
  return (await readMounts()).map((mount) => mount.target);
}

async function mount(host: Host, request: MountRequest, options: string) {
  return await host.exec('mount', ['-t', request.fileSystem, '-o', options, request.device, request.target]);
}

/** Errors of rmdir(2) if there is no directory, or one that must not be removed. */
const KEPT_MOUNT_POINT: ReadonlySet<string | undefined> = new Set(['ENOTEMPTY', 'EBUSY', 'ENOENT', 'ENOTDIR']);

/** Removes only an empty directory: rmdir(2) refuses everything else. */
async function removeMountPoint(target: string): Promise<void> {
  await rmdir(target).catch((error: NodeJS.ErrnoException) => {
    if (!KEPT_MOUNT_POINT.has(error.code)) throw error;
  });
}
