/** What the kernel refuses for lack of something, or because of a broken disk, by its error; what else it says is a matter of who has asked. */
export interface SystemError extends Error {
  readonly code: string;
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

/** Whether something thrown is a refusal of the kernel that an operator can do something about. */
export function isSystemError(thrown: unknown): thrown is SystemError {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' && remedyOf(thrown) !== undefined;
}

/** What the operator does next. */
export function systemRemedy(error: SystemError): string {
  return remedyOf(error) ?? REMEDIES.EIO;
}

/** mkdir with parents says ENOENT whatever the kernel has refused, EIO and EROFS too. Source: Node, src/node_file.cc, MKDirpAsync. */
function remedyOf(error: Error): string | undefined {
  const code = 'code' in error ? String(error.code) : '';
  if (code === 'ENOENT' && 'syscall' in error && error.syscall === 'mkdir') return REMEDIES.EROFS;
  return isListed(code) ? REMEDIES[code] : undefined;
}

function isListed(code: string): code is keyof typeof REMEDIES {
  return Object.hasOwn(REMEDIES, code);
}

/** The same error with the path that it is about, which Node leaves out where a file was open already. */
export function atPath(error: unknown, path: string): unknown {
  if (error instanceof Error && 'syscall' in error && !('path' in error)) error.message += ` '${path}'`;
  return error;
}
