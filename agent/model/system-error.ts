/** A refusal of the kernel that an operator can act upon: a resource is exhausted, or a disk is broken. */
export interface SystemRefusal {
  readonly code: string;
  /** The next step of the operator. */
  readonly remedy: string;
}

const AGAIN = 'then run the command again';
const ROOM = `Free space on that file system, ${AGAIN}`;
const PATH = `Check this path, ${AGAIN}`;
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

const SUDO = 'Give the command again with sudo';

const PATH_REMEDIES: Readonly<Record<string, string>> = { ENOENT: PATH, ENOTDIR: PATH, EISDIR: PATH, EACCES: SUDO, EPERM: SUDO };

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

/** What to do if nobody knew better what the path means that the kernel refuses; undefined for any other error. */
export function refusalRemedy(thrown: unknown): string | undefined {
  const resource = systemRefusal(thrown)?.remedy;
  if (resource !== undefined) return resource;
  return isKernelError(thrown) && Object.hasOwn(PATH_REMEDIES, thrown.code) ? PATH_REMEDIES[thrown.code] : undefined;
}

function isListed(code: string): code is keyof typeof REMEDIES {
  return Object.hasOwn(REMEDIES, code);
}

/** What a refusal means for the path that was named, in words that follow "cannot be read: ". Source: errno(3). */
const REASONS = {
  ENOENT: 'it does not exist',
  ENOTDIR: 'a part of its path is not a folder',
  EISDIR: 'it is a folder',
  EACCES: 'this user may not do that',
  EPERM: 'this user may not do that',
  ELOOP: 'its path leads through a symbolic link that cannot be followed',
  EEXIST: 'it already exists',
  ENOTEMPTY: 'it is not empty',
  ENAMETOOLONG: 'its name is too long',
  EBUSY: 'it is in use',
  ETXTBSY: 'it is in use',
  ENXIO: 'nothing stands behind it',
  EIO: 'its disk reports an error (EIO)',
  EROFS: 'its file system is read-only (EROFS)',
  ENOSPC: 'its file system is full (ENOSPC)',
  EDQUOT: 'its quota is used up (EDQUOT)',
  EMFILE: 'this process has too many open files (EMFILE)',
  ENFILE: 'this machine has too many open files (ENFILE)',
  ENOMEM: 'the machine lacks memory (ENOMEM)',
  EAGAIN: 'the machine lacks memory or processes (EAGAIN)',
} as const;

/** What the agent could not do with a path, by the system call; any other call reads. */
const DEEDS: Readonly<Record<string, string>> = {
  mkdir: 'created',
  mkdtemp: 'created',
  symlink: 'created',
  link: 'created',
  mknod: 'created',
  unlink: 'removed',
  rmdir: 'removed',
  rm: 'removed',
  rename: 'renamed',
  write: 'written',
  fsync: 'written',
  fdatasync: 'written',
  ftruncate: 'written',
  copyfile: 'copied',
  chmod: 'changed',
  fchmod: 'changed',
  chown: 'changed',
  fchown: 'changed',
  lchown: 'changed',
  utime: 'changed',
  futime: 'changed',
};

interface KernelError extends Error {
  readonly code: string;
  readonly syscall?: unknown;
  readonly path?: unknown;
}

function isKernelError(thrown: unknown): thrown is KernelError {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' && /^E[A-Z0-9]+$/.test(thrown.code);
}

/**
 * Why something could not be done, in words that follow "cannot be read: ": the meaning of a refusal of the kernel, without its name if people need
 * none; the message of any other thrown value.
 */
export function reasonOf(thrown: unknown): string {
  if (!isKernelError(thrown)) return thrown instanceof Error ? thrown.message : String(thrown);
  const { code, message } = thrown;
  if (isReason(code)) return REASONS[code];
  // Node writes `CODE: text, call 'path'`.
  const text = /^E[A-Z0-9]+: ([^,']+)/.exec(message)?.[1];
  return text === undefined ? message : `${text} (${code})`;
}

function isReason(code: string): code is keyof typeof REASONS {
  return Object.hasOwn(REASONS, code);
}

/** A refusal of the kernel as a sentence that names the path; undefined for any other error. */
export function refusalText(thrown: unknown): string | undefined {
  if (!isKernelError(thrown)) return undefined;
  const { path, syscall, message } = thrown;
  const named = typeof path === 'string' ? path : /'([^']+)'$/.exec(message)?.[1];
  if (named === undefined && !isReason(thrown.code)) return undefined;
  const deed = String(syscall).startsWith('spawn') ? 'started' : (DEEDS[String(syscall)] ?? 'read');
  return `${named ?? 'a file'} cannot be ${deed}: ${reasonOf(thrown)}`;
}

/** Whether the kernel has refused something, in the error or what caused it, because this user may not do it. */
export function isDenial(thrown: unknown): boolean {
  if (isKernelError(thrown) && (thrown.code === 'EACCES' || thrown.code === 'EPERM')) return true;
  return thrown instanceof Error && thrown.cause !== undefined && isDenial(thrown.cause);
}

/** The same error with the path in its message; Node leaves it out if the file was already open. */
export function atPath(error: unknown, path: string): unknown {
  if (error instanceof Error && 'syscall' in error && !('path' in error)) error.message += ` '${path}'`;
  return error;
}
