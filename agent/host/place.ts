import { constants } from 'node:fs';
import { chmod, copyFile, link, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** How a file came to its place: `link` shares the inode with its source, `reflink` shares the blocks until one of them is written. */
export type Placement = 'reflink' | 'link' | 'copy';

/** What ioctl_ficlone(2) and link(2) answer where the file system or the mount cannot do it. */
const CANNOT = new Set(['ENOTSUP', 'EOPNOTSUPP', 'EXDEV', 'EINVAL', 'ENOTTY', 'ENOSYS', 'EPERM', 'EMLINK']);

/**
 * Puts the bytes of a file at another path, without copying them where the file system can: reflink, else hard link, else copy. Makes the
 * directory; what lies at the path is replaced.
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

async function succeeds(act: () => Promise<void>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && CANNOT.has(String(error.code))) return false;
    throw error;
  }
}
