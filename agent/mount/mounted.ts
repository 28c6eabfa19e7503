import { access, constants, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { canonical, type MountEntry, readMounts } from '../host/mount-table.ts';

/** The mounts at exactly this path; the last one is visible. */
export async function mountsAt(path: string): Promise<readonly MountEntry[]> {
  const target = await canonical(path);
  return (await readMounts()).filter((mount) => mount.target === target);
}

/**
 * The file behind a loop device, as the kernel names it; undefined for other devices.
 * Source: Linux, Documentation/ABI/testing/sysfs-block-loop.
 */
export async function backingFileOf(source: string): Promise<string | undefined> {
  if (!/^\/dev\/loop\d+$/.test(source)) return undefined;
  const text = await readFile(join('/sys/block', basename(source), 'loop/backing_file'), 'utf8').catch(() => undefined);
  return text?.replace(/\n$/, '');
}

/** Whether writing below a path is refused by the file system itself, also for root. */
export async function isReadOnly(path: string): Promise<boolean> {
  return await access(path, constants.W_OK).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'EROFS',
  );
}
