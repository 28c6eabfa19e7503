import { existsSync } from 'node:fs';
import { type ExecResult, quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { kernelSaid } from '../host/kernel-reason.ts';
import { PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import { squashfsMountArgs, type VerityOpening, verityDevice, verityOpenArgs } from './mount-argv.ts';

/** Exists if SELinux is enabled. Source: selinux(8), selinuxfs. */
const SELINUX = '/sys/fs/selinux/enforce';

export interface ImageSource {
  /** A file, or a block device. */
  readonly source: string;
  readonly isFile: boolean;
}

/**
 * Mounts a store image over the empty store. The loop device of a file is removed with the mount.
 * @throws PrestageError ERR_STORE_MOUNT
 */
export async function mountImage(host: Host, { source, isFile }: ImageSource): Promise<void> {
  const mounted = await mountSquashfs(host, { source, isFile });
  if (mounted.exitCode !== 0) throw doesNotMount(source, await mountReason(host, mounted));
}

/** The same, but returns the result of mount(8) instead of throwing. */
export async function mountSquashfs(host: Host, { source, isFile }: ImageSource): Promise<ExecResult> {
  const target = hostPath(host, STORE_PATH);
  const hasSelinux = existsSync(hostPath(host, SELINUX));
  return await host.exec('mount', squashfsMountArgs({ source, isFile, target, hasSelinux }));
}

/**
 * Sets up the dm-verity device of a store image and gives its path. The kernel checks each block against the root hash when it is read.
 * Source: veritysetup(8), open.
 * @throws PrestageError ERR_STORE_MOUNT
 */
export async function openVerity(host: Host, opening: VerityOpening): Promise<string> {
  const result = await host.exec('veritysetup', verityOpenArgs(opening));
  if (result.exitCode !== 0) throw doesNotMount(opening.image, `veritysetup open: ${await mountReason(host, result)}`);
  return verityDevice(opening.stage);
}

/**
 * Messages of the kernel about a store image. squashfs names no device, and the loop device of a failed mount has no name any more.
 * Sources: Linux, fs/squashfs/super.c, squashfs.h (`SQUASHFS error: `); drivers/md/dm-verity-target.c, dm-table.c.
 */
const OF_A_STORE = /squashfs|Filesystem uses ".*" compression|device-mapper: (?:verity|table)/i;

/** Why a store image was refused, with what the kernel said last about it. */
export async function mountReason(host: Host, { stderr }: Pick<ExecResult, 'stderr'>): Promise<string> {
  return `${quote(stderr)}${await kernelSaid(host, OF_A_STORE)}`;
}

export function doesNotMount(source: string, reason: string): PrestageError {
  return new PrestageError(
    'ERR_STORE_MOUNT',
    `the store image ${source} cannot be mounted: ${reason}`,
    'Look at the messages of the kernel (dmesg), then run: prestage-agent verify --full; if the bundle is damaged, write it again',
  );
}
