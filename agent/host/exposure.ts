import type { Stats } from 'node:fs';
import { readFileSync } from 'node:fs';

/** Mode bits of others and of the group, and the sticky bit. Source: inode(7). */
const WRITABLE_BY_OTHERS = 0o002;
const WRITABLE_BY_GROUP = 0o020;
const STICKY = 0o1000;

/**
 * Who may be able to change a directory that is worked in.
 *
 * `alone`: root, or who runs this process; a group only when it is root's or that process's own. It is the standard of a node.
 *
 * `caller`: that of a factory, whose folders lie where people work. Who called by sudo(8) counts as who runs the process; so does, in a user
 * namespace, the one whom it does not map. Who is not root shares a folder with each group of theirs. Everybody may write to a sticky
 * directory, but then what follows in the chain has to belong to those named: nobody else can rename or remove it.
 */
export type Standard = 'alone' | 'caller';

/**
 * Why somebody else than those of the standard could have put or can exchange what lies at a path, as the end of a sentence; undefined when
 * nobody can.
 * @param found by lstat(2), so that a link is seen as such
 */
export function exposureOf(found: Stats, standard: Standard = 'alone'): string | undefined {
  if (found.isSymbolicLink()) return 'is a symbolic link';
  if (!isKeeper(found.uid, standard)) return `belongs to the user ${found.uid}`;
  const isOpenToOthers = (found.mode & WRITABLE_BY_OTHERS) !== 0 && !(standard === 'caller' && isSticky(found));
  const isOpenToGroup =
    (found.mode & WRITABLE_BY_GROUP) !== 0 && !isOwnGroup(found.gid, standard) && !(standard === 'caller' && isSticky(found));
  return isOpenToOthers || isOpenToGroup ? `can be written by others (mode ${(found.mode & 0o7777).toString(8)})` : undefined;
}

/** Whether everybody can make names in a directory, and nobody can rename or remove those of others. */
export function isSharedByAll(found: Stats): boolean {
  return isSticky(found) && (found.mode & (WRITABLE_BY_OTHERS | WRITABLE_BY_GROUP)) !== 0;
}

/** Whether a user is one of those that the standard names. */
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

/** Whom a user namespace shows in place of everybody whom it does not map; undefined outside of one. Source: user_namespaces(7). */
function unmappedUid(): number | undefined {
  if (/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'))) return undefined;
  return Number(readFileSync('/proc/sys/kernel/overflowuid', 'utf8'));
}
