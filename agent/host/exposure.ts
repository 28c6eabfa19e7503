import type { Stats } from 'node:fs';

/** Mode bits of others and of the group. Source: inode(7). */
const WRITABLE_BY_OTHERS = 0o002;
const WRITABLE_BY_GROUP = 0o020;

/**
 * Why somebody else than root, or than who runs this process, could have put or can exchange what lies at a path, as the end of a sentence;
 * undefined where nobody can.
 * @param found by lstat(2), so that a link is seen as such
 */
export function exposureOf(found: Stats): string | undefined {
  if (found.isSymbolicLink()) return 'is a symbolic link';
  if (found.uid !== 0 && found.uid !== process.geteuid?.()) return `belongs to the user ${found.uid}`;
  const isGroupOwn = found.gid === 0 || found.gid === process.getegid?.();
  const isOpen = (found.mode & WRITABLE_BY_OTHERS) !== 0 || ((found.mode & WRITABLE_BY_GROUP) !== 0 && !isGroupOwn);
  return isOpen ? `can be written by others (mode ${(found.mode & 0o7777).toString(8)})` : undefined;
}
