import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

/**
 * Why mount(8) refused an image. `kernel`: the kernel cannot mount it, whatever the image holds. `either`: the kernel lacks something that the image
 * needs, or the image is damaged. `other`: neither, but a loop device, a permission or a disk, for example.
 */
export type MountRefusal = 'kernel' | 'either' | 'other';

/**
 * Reads what mount(8) wrote when it refused a squashfs. A file system that the kernel does not have is ENODEV. A compression that it does not
 * have is EINVAL, as a damaged superblock is; util-linux from 2.39 on also quotes the kernel. Pure.
 * Sources: util-linux, libmount/src/context_mount.c, mnt_context_get_mount_excode; Linux, fs/squashfs/super.c, squashfs_fill_super.
 */
export function mountRefusal(stderr: string): MountRefusal {
  if (/unknown filesystem type|failed: No such device\.?$|This is not supported|are unsupported/m.test(stderr)) return 'kernel';
  return /wrong fs type|failed: Invalid argument/.test(stderr) ? 'either' : 'other';
}

/** Ids in a superblock. Source: Linux, fs/squashfs/squashfs_fs.h. */
const COMPRESSIONS = ['', 'gzip', 'lzma', 'lzo', 'xz', 'lz4', 'zstd'];
const MAGIC = 'hsqs';
const COMPRESSION_OFFSET = 20;
const VERSION_OFFSET = 28;

/** What a file is by its superblock: `squashfs 4.0 with zstd`; undefined if it is not a squashfs, or not a plain file. */
export async function squashfsKind(path: string): Promise<string | undefined> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => undefined);
  const { buffer, bytesRead } = (await file?.read(Buffer.alloc(32), 0, 32, 0)) ?? { buffer: Buffer.alloc(0), bytesRead: 0 };
  if (bytesRead < buffer.length || buffer.length === 0 || buffer.toString('latin1', 0, MAGIC.length) !== MAGIC) return undefined;
  const id = buffer.readUInt16LE(COMPRESSION_OFFSET);
  const version = `${buffer.readUInt16LE(VERSION_OFFSET)}.${buffer.readUInt16LE(VERSION_OFFSET + 2)}`;
  return `squashfs ${version} with ${COMPRESSIONS[id] ?? `compression ${id}`}`;
}
