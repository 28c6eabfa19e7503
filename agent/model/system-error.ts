/** A refusal of the kernel that an operator can act upon: a resource is exhausted, or a disk is broken. */
export interface SystemRefusal {
  readonly code: string;
  /** The next step of the operator. */
  readonly remedy: string;
}

const AGAIN = 'then run the command again';
const ROOM = `Free space on that file system, ${AGAIN}`;
const FILES = `Raise the limit of open files (LimitNOFILE= of the unit, ulimit -n), ${AGAIN}`;
const MEMORY = `Free memory, or raise the limit of processes (TasksMax= of the unit, ulimit -u), ${AGAIN}`;

/** Source: errno(3). */
const REMEDIES = {
  EIO: `Find the failing disk with: dmesg; replace it, ${AGAIN}`,
  EROFS: `Find out why that file system cannot be written: findmnt shows its options, dmesg shows disk errors; repair it, ${AGAIN}`,
  ENOSPC: ROOM,
  EDQUOT: ROOM,
  EMFILE: FILES,
  ENFILE: FILES,
  ENOMEM: MEMORY,
  EAGAIN: MEMORY,
} as const;

/**
 * The refusal in a thrown value; undefined for any other error: what a missing file means, for instance, only the caller knows.
 * mkdir with parents reports ENOENT for any refusal of the kernel, including EIO and EROFS. Source: Node, src/node_file.cc, MKDirpAsync.
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

/** The same error with the path in its message; Node leaves it out if the file was already open. */
export function atPath(error: unknown, path: string): unknown {
  if (error instanceof Error && 'syscall' in error && !('path' in error)) error.message += ` '${path}'`;
  return error;
}
