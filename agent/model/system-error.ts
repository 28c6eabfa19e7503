/** What the kernel refuses for lack of something, or because of a broken disk, by its error; what else it says is a matter of who has asked. */
export interface SystemError extends Error {
  readonly code: keyof typeof REMEDIES;
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
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' && Object.hasOwn(REMEDIES, thrown.code);
}

/** What the operator does next. */
export function systemRemedy({ code }: SystemError): string {
  return REMEDIES[code];
}

/** The same error with the path that it is about, which Node leaves out where a file was open already. */
export function atPath(error: unknown, path: string): unknown {
  if (error instanceof Error && 'syscall' in error && !('path' in error)) error.message += ` '${path}'`;
  return error;
}
