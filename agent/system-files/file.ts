import { constants } from 'node:fs';
import { chmod, chown, type FileHandle, lstat, open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeAtomic } from '../host/atomic.ts';
import { exposureOf } from '../host/exposure.ts';
import { type Host, hostPath } from '../host/host.ts';
import { type Digest, digestOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';

/** The first line of every file that the agent adds to the system: it marks the file as ours, even if the record is lost. */
export const OWNED_MARK = '# Written by prestage-agent; removed by: prestage-agent release';

/** The first line of a file that a release leaves until the next boot: the agent may write there again, and has nothing to undo. */
export const LEFT_MARK = '# Left by prestage-agent release, until the next boot';

/** A file of the system as it is. */
export interface FoundFile {
  readonly content: Buffer;
  readonly digest: Digest;
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970 with nine decimals. */
  readonly modifiedAt: string;
}

/** A larger file is not a configuration file. */
const SIZE_LIMIT_BYTES = 4 * 1024 * 1024;

/**
 * Reads a file of the system by its path on the node; undefined if there is none. Links are not followed, neither in its directory nor in its name: the
 * file that is changed must be the file that is restored, and a link can be changed in between. A directory that others can write to is refused: they
 * could replace a file by a link right after it was written.
 * @throws PrestageError ERR_SYSTEM_FILE
 */
export async function readSystemFile(host: Host, path: string): Promise<FoundFile | undefined> {
  if (!(await hasPlainDirectory(host, path))) return undefined;
  const file = await open(hostPath(host, path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return undefined;
      throw cause.code === 'ELOOP' ? notPlain(path, 'is a symbolic link') : notPlain(path, `cannot be read (${cause.code})`, cause);
    },
  );
  if (file === undefined) return undefined;
  await using handle: FileHandle = file;
  const found = await handle.stat({ bigint: true });
  if (!found.isFile()) throw notPlain(path, 'is not a plain file');
  if (found.size > SIZE_LIMIT_BYTES) throw notPlain(path, `has ${found.size} bytes, more than ${SIZE_LIMIT_BYTES}`);
  const content = await handle.readFile();
  return {
    content,
    digest: digestOf(content),
    mode: Number(found.mode & 0o7777n),
    uid: Number(found.uid),
    gid: Number(found.gid),
    modifiedAt: `${found.mtimeNs / 1_000_000_000n}.${String(found.mtimeNs % 1_000_000_000n).padStart(9, '0')}`,
  };
}

/** Whether a file belongs to the agent: the agent added it, or its release left it. */
export function isMarked(content: Uint8Array | string): boolean {
  return startsWithLine(content, OWNED_MARK) || isLeft(content);
}

/** Whether a release left a file until the next boot. */
export function isLeft(content: Uint8Array | string): boolean {
  return startsWithLine(content, LEFT_MARK);
}

function startsWithLine(content: Uint8Array | string, line: string): boolean {
  const start =
    typeof content === 'string'
      ? content
      : Buffer.from(content)
          .subarray(0, line.length + 1)
          .toString('latin1');
  return start.startsWith(`${line}\n`);
}

/** Writes a file of the system with exactly these permission bits and this owner. */
export async function writeSystemFile(
  host: Host,
  path: string,
  {
    content,
    mode,
    uid,
    gid,
  }: { readonly content: string | Uint8Array; readonly mode: number; readonly uid?: number; readonly gid?: number },
): Promise<void> {
  const file = hostPath(host, path);
  await writeAtomic(file, content, mode);
  const found = await lstat(file);
  const owner = { uid: uid ?? found.uid, gid: gid ?? found.gid };
  if (found.uid !== owner.uid || found.gid !== owner.gid) await chown(file, owner.uid, owner.gid);
  // The umask may have cleared bits; changing the owner clears set-id bits.
  if ((found.mode & 0o7777) !== mode || found.uid !== owner.uid) await chmod(file, mode);
}

/** The directories above a path that do not exist yet, outer ones first. */
export async function missingDirectories(host: Host, path: string): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const directory of directoriesOf(path)) {
    const found = await lstat(hostPath(host, directory)).catch(() => undefined);
    if (found === undefined) missing.push(directory);
  }
  return missing;
}

/**
 * Gives files the SELinux label of their place, if the machine has SELinux: systemd and CRI-O may not read files with another label.
 * Source: restorecon(8); docs/field-facts.md, "SELinux labels": only if the program exists.
 */
export async function relabel(host: Host, paths: readonly string[]): Promise<void> {
  if (host.root !== '/' || paths.length === 0) return;
  const isOn = await lstat('/sys/fs/selinux/enforce').then(
    () => true,
    () => false,
  );
  if (!isOn) return;
  await host.exec('restorecon', paths).catch((error: unknown) => {
    if (!(error instanceof PrestageError) || error.code !== 'ERR_TOOL_MISSING') throw error;
  });
}

/** Whether the directory of a path exists, and is reached only through directories, not links. */
async function hasPlainDirectory(host: Host, path: string): Promise<boolean> {
  for (const directory of directoriesOf(path)) {
    const found = await lstat(hostPath(host, directory)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (found === undefined) return false;
    if (found.isSymbolicLink()) throw notPlain(path, `is reached through the symbolic link ${directory}`);
    if (!found.isDirectory()) throw notPlain(path, `cannot exist: ${directory} is not a directory`);
    const exposure = exposureOf(found);
    if (exposure !== undefined) throw notPlain(path, `cannot be trusted: ${directory} ${exposure}`);
  }
  return true;
}

/** `/etc/crio/x.conf` -> `/etc`, `/etc/crio`. */
function directoriesOf(path: string): readonly string[] {
  const parts = dirname(path)
    .split('/')
    .filter((part) => part !== '');
  return parts.map((_, index) => join('/', ...parts.slice(0, index + 1)));
}

function notPlain(path: string, reason: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_SYSTEM_FILE',
    `${path} ${reason}`,
    `Replace ${path} with a plain file, or remove it`,
    cause === undefined ? undefined : { cause },
  );
}
