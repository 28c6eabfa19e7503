import type { Stats } from 'node:fs';
import { readFileSync } from 'node:fs';

/** Mode bits: writable by others, writable by the group, sticky. Source: inode(7). */
const WRITABLE_BY_OTHERS = 0o002;
const WRITABLE_BY_GROUP = 0o020;
const STICKY = 0o1000;

/**
 * Users who may be able to change a directory in which the agent works.
 *
 * `alone`: root and the user who runs this process; a group only if it is the group of root or of the process. This is the standard on a node.
 *
 * `caller`: the standard in a factory, where folders are in the working directories of people. The user who called sudo(8) counts as the user
 * who runs the process, and so does the unmapped user of a user namespace. A user other than root may share a folder with their groups. Sticky
 * directories may be writable for everybody, but then the next part of the chain must belong to one of these users: nobody else can rename or
 * remove it.
 */
export type Standard = 'alone' | 'caller';

/**
 * Why a user outside the standard could have created or could replace the file at a path, as the end of a sentence; undefined if no such user
 * could.
 * @param found from lstat(2), so that a link is seen as a link
 */
export function exposureOf(found: Stats, standard: Standard = 'alone'): string | undefined {
  if (found.isSymbolicLink()) return 'is a symbolic link';
  if (!isKeeper(found.uid, standard)) return `belongs to user ${found.uid}`;
  const isOpenToOthers = (found.mode & WRITABLE_BY_OTHERS) !== 0 && !(standard === 'caller' && isSticky(found));
  const isOpenToGroup =
    (found.mode & WRITABLE_BY_GROUP) !== 0 && !isOwnGroup(found.gid, standard) && !(standard === 'caller' && isSticky(found));
  return isOpenToOthers || isOpenToGroup ? `is writable for other users (mode ${(found.mode & 0o7777).toString(8)})` : undefined;
}

/** Whether every user can create files in a directory, and none can rename or remove files of another user. */
export function isSharedByAll(found: Stats): boolean {
  return isSticky(found) && (found.mode & (WRITABLE_BY_OTHERS | WRITABLE_BY_GROUP)) !== 0;
}

/** Whether a user is one of the standard. */
export function isKeeper(uid: number, standard: Standard): boolean {
  const own = process.geteuid?.();
  if (uid === 0 || uid === own) return true;
  return standard === 'caller' && ((own === 0 && String(uid) === process.env.SUDO_UID) || uid === unmappedUid());
}

function isSticky(found: Stats): boolean {
  return found.isDirectory() && (found.mode & STICKY) !== 0;
}

function isOwnGroup(gid: number, standard: Standard): boolean {
  if (gid === 0 || gid === process.getegid?.()) return true;
  return standard === 'caller' && process.geteuid?.() !== 0 && process.getgroups?.().includes(gid) === true;
}

/** The user that a user namespace shows instead of every user that it does not map; undefined outside a user namespace. Source: user_namespaces(7). */
function unmappedUid(): number | undefined {
  if (/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'))) return undefined;
  return Number(readFileSync('/proc/sys/kernel/overflowuid', 'utf8'));
}
