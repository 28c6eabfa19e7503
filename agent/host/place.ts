import { constants } from 'node:fs';
import { chmod, copyFile, link, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** How a file was placed: `link` shares the inode with its source, `reflink` shares the blocks until one of the two is written. */
export type Placement = 'reflink' | 'link' | 'copy';

/** Errors of ioctl_ficlone(2) and link(2) if the file system or the mount does not support the operation. */
const CANNOT = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS', 'EPERM', 'EMLINK']);

/**
 * Puts the bytes of a file at another path, if possible without copying them: reflink, otherwise hard link, otherwise copy. Creates the
 * directory; replaces an existing file.
 */
export async function placeFile(from: string, to: string): Promise<Placement> {
  await mkdir(dirname(to), { recursive: true });
  await rm(to, { force: true });
  const cloned = await succeeds(() => copyFile(from, to, constants.COPYFILE_FICLONE_FORCE));
  if (cloned) {
    await chmod(to, 0o644);
    return 'reflink';
  }
  await rm(to, { force: true });
  if (await succeeds(() => link(from, to))) return 'link';
  await copyFile(from, to);
  await chmod(to, 0o644);
  return 'copy';
}

async function succeeds(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && CANNOT.has(String(error.code))) return false;
    throw error;
  }
}
