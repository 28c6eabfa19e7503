import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, mkdtemp, open, readdir, readlink, rmdir, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { checkWorkplace, walkChain } from './chain.ts';
import { isKeeper } from './exposure.ts';
import { readMounts } from './mount-table.ts';

/** Number of files of one directory that are removed at the same time. */
const PARALLEL = 64;
/** Number of attempts to empty a directory while another process keeps adding files. */
const TRIES = 3;
/** Opens only a directory, never the target of a link in its place. */
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * Removes a file or a directory with its content; does nothing if the path does not exist. It is the only function of the agent that removes
 * trees, and it stays within the tree:
 *
 * - each parent directory belongs to a user of the standard `caller` and only such users can change it (agent/host/exposure.ts); commands on a
 *   node are stricter, see own-places.ts and the scratch space;
 * - nothing is mounted there or below, by the canonical path, and no directory is on another file system;
 * - no link is followed. The parent directory is opened, and everything below is reached only through open directories (`/proc/self/fd` instead
 *   of unlinkat(2), which Node lacks), so replacing a directory within the tree cannot redirect the removal.
 * @throws PrestageError ERR_REMOVE if nothing was removed; the error of the system for a file that cannot be removed
 */
export async function removeTree(path: string): Promise<void> {
  await removeTrees([path]);
}

/** Removes several trees, and reads the mount table once. */
export async function removeTrees(paths: readonly string[]): Promise<void> {
  if (paths.length === 0) return;
  const mounted = (await readMounts()).map(({ target }) => target);
  for (const path of paths) await removeOne(resolve(path), mounted);
}

/** Creates an empty directory; removes an existing one first. */
export async function makeEmptyDirectory(path: string, mode = 0o777): Promise<void> {
  await removeTree(path);
  await mkdir(path, { recursive: true, mode });
}

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/**
 * A private directory with a unique name, by default among the temporary files of this machine. Disposing of the lease removes it.
 * @throws PrestageError ERR_WORKPLACE
 */
export async function temporaryDirectory(prefix: string, directory = tmpdir()): Promise<TemporaryDirectory> {
  await checkWorkplace(directory);
  const path = await mkdtemp(join(directory, prefix));
  return { path, [Symbol.asyncDispose]: async () => await removeTree(path) };
}

async function removeOne(path: string, mounted: readonly string[]): Promise<void> {
  const chain = await walkChain(dirname(path), 'caller');
  if (chain.fault !== undefined) throw unsafe(path, chain.fault);
  if (chain.missing.length > 0) return;
  const name = Buffer.from(basename(path));
  await using parent = await open(chain.path, DIRECTORY);
  if ((await readlink(at(parent))) !== chain.path) throw unsafe(path, `${chain.path} was replaced in the meantime`);
  const found = await lstat(inside(parent, name)).catch(unlessMissing);
  if (found === undefined) return;
  if (chain.isShared && !isKeeper(found.uid, 'caller'))
    throw unsafe(path, `${path} belongs to user ${found.uid}, in a directory that every user can write to`);
  const real = join(chain.path, basename(path));
  const [mount] = mounted.filter((target) => target === real || target.startsWith(`${real}/`));
  if (mount !== undefined) throw holdsMount(path, mount);
  if (found.isDirectory()) await removeDirectory(parent, name, { path, dev: found.dev });
  else await unlink(inside(parent, name)).catch(unlessMissing);
}

interface Tree {
  /** As the caller gave it, for messages. */
  readonly path: string;
  /** Device number of its file system. */
  readonly dev: number;
}

async function removeDirectory(parent: FileHandle, name: Buffer, tree: Tree): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const isGone = await empty(parent, name, tree);
    if (isGone) return;
    try {
      return await rmdir(inside(parent, name));
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      if (!hasCode(error, 'ENOTEMPTY') || attempt === TRIES) throw error;
    }
  }
}

/** @returns whether the directory was already gone */
async function empty(parent: FileHandle, name: Buffer, tree: Tree): Promise<boolean> {
  const opened = await open(inside(parent, name), DIRECTORY).catch(unlessMissing);
  if (opened === undefined) return true;
  await using directory = opened;
  if ((await directory.stat()).dev !== tree.dev) throw holdsMount(tree.path, await readlink(at(directory)));
  const entries = await readdir(at(directory), { withFileTypes: true, encoding: 'buffer' });
  const others = entries.filter((entry) => !entry.isDirectory());
  for (let from = 0; from < others.length; from += PARALLEL) {
    await Promise.all(
      others.slice(from, from + PARALLEL).map(async (entry) => await unlink(inside(directory, entry.name)).catch(unlessMissing)),
    );
  }
  for (const entry of entries) if (entry.isDirectory()) await removeDirectory(directory, entry.name, tree);
  return false;
}

/** The path of an open directory. Source: proc_pid_fd(5). */
function at({ fd }: FileHandle): string {
  return `/proc/self/fd/${fd}`;
}

/** The path of a name in an open directory; file names in layers can have any encoding. */
function inside(directory: FileHandle, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${at(directory)}/`), name]);
}

function unsafe(path: string, fault: string): PrestageError {
  return new PrestageError(
    'ERR_REMOVE',
    `${path} is not removed, because other users could redirect the removal: ${fault}`,
    'Check its content and remove it by hand, or remove the write permission of other users; then run the command again',
  );
}

function holdsMount(path: string, mount: string): PrestageError {
  return new PrestageError(
    'ERR_REMOVE',
    `${path} is not removed, because something is mounted at ${mount}`,
    `Unmount the file systems that this command lists: findmnt --submounts ${path}; then run the command again`,
  );
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
