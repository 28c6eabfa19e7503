/** What the kernel refuses for lack of something, or because of a broken disk, which an operator can do something about. */
export interface SystemRefusal {
  readonly code: string;
  /** What the operator does next. */
  readonly remedy: string;
}

const AGAIN = 'then give the command again';
const ROOM = `Make room on that file system, ${AGAIN}`;
const FILES = `Raise the limit of open files (LimitNOFILE= of the unit, ulimit -n), ${AGAIN}`;
const MEMORY = `Free memory, or raise the limit of processes (TasksMax= of the unit, ulimit -u), ${AGAIN}`;

/** Source: errno(3). */
const REMEDIES = {
  EIO: `See which disk fails with: dmesg; change it, ${AGAIN}`,
  EROFS: `See why that file system cannot be written: findmnt shows its options, dmesg errors of its disk; mend it, ${AGAIN}`,
  ENOSPC: ROOM,
  EDQUOT: ROOM,
  EMFILE: FILES,
  ENFILE: FILES,
  ENOMEM: MEMORY,
  EAGAIN: MEMORY,
} as const;

/**
 * The refusal in something thrown; undefined for whatever else it is: what a missing file means, say, is a matter of who has asked for it.
 * mkdir with parents says ENOENT whatever the kernel has refused, EIO and EROFS too. Source: Node, src/node_file.cc, MKDirpAsync.
 */
export function systemRefusal(thrown: unknown): SystemRefusal | undefined {
  if (!(thrown instanceof Error) || !('code' in thrown)) return undefined;
  const code = String(thrown.code);
  if (code === 'ENOENT' && 'syscall' in thrown && thrown.syscall === 'mkdir') return { code, remedy: REMEDIES.EROFS };
  return isListed(code) ? { code, remedy: REMEDIES[code] } : undefined;
}

function isListed(code: string): code is keyof typeof REMEDIES {
  return Object.hasOwn(REMEDIES, code);
}

/** The same error with the path that it is about, which Node leaves out where a file was open already. */
export function atPath(error: unknown, path: string): unknown {
  if (error instanceof Error && 'syscall' in error && !('path' in error)) error.message += ` '${path}'`;
  return error;
}
