import type { Stats } from 'node:fs';
import { lstat, mkdir, readlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { exposureOf, isKeeper, isSharedByAll, type Standard } from './exposure.ts';

/** The existing directories on the way to a path. */
export interface Chain {
  /** The canonical path of the last of them. */
  readonly path: string;
  /** The parts of the path that do not exist yet, outermost first. */
  readonly missing: readonly string[];
  /** Every user can create files in the last of them, so a file there can belong to anybody. */
  readonly isShared: boolean;
  /** Which of them a user outside the standard can replace, and why, in words; the walk ended before it. */
  readonly fault: string | undefined;
}

/** The limit of Linux. Source: path_resolution(7). */
const MAX_LINKS = 40;

/**
 * Walks from `/` to a directory and checks each directory and link on the way. Only users of the standard can replace a part of a chain
 * without a fault, so its canonical path keeps leading to the same place.
 */
export async function walkChain(path: string, standard: Standard): Promise<Chain> {
  const left = partsOf(resolve(path));
  let [at, links] = ['/', 0];
  let found = await lstat(at);
  const chain = (fault?: string): Chain => ({ path: at, missing: left, isShared: isSharedByAll(found), fault });
  const exposure = exposureOf(found, standard);
  if (exposure !== undefined) return chain(`${at} ${exposure}`);
  for (let name = left.shift(); name !== undefined; name = left.shift()) {
    const next = name === '..' ? dirname(at) : join(at, name);
    const seen = await lstat(next).catch(unlessMissing);
    // A file that is not a directory ends the walk: creating something below it fails with an error of the system.
    if (seen === undefined || !(seen.isDirectory() || seen.isSymbolicLink())) {
      left.unshift(name);
      return chain();
    }
    const fault = faultOf(next, seen, { standard, isShared: isSharedByAll(found) });
    if (fault !== undefined) return chain(fault);
    if (!seen.isSymbolicLink()) {
      [at, found] = [next, seen];
      continue;
    }
    if (++links > MAX_LINKS) return chain(`the path has more than ${MAX_LINKS} symbolic links, up to ${next}`);
    const target = await readlink(next);
    left.unshift(...partsOf(target));
    if (target.startsWith('/')) [at, found] = ['/', await lstat('/')];
  }
  return chain();
}

function faultOf(path: string, found: Stats, above: { readonly standard: Standard; readonly isShared: boolean }): string | undefined {
  const { standard, isShared } = above;
  if (found.isSymbolicLink())
    return isKeeper(found.uid, standard) ? undefined : `${path} is a symbolic link that belongs to user ${found.uid}`;
  const exposure = exposureOf(found, standard);
  if (exposure === undefined) return undefined;
  return `${path} ${exposure}${isShared ? ', in a directory that every user can write to' : ''}`;
}

/**
 * Makes sure that only the user who runs a command, directly or with sudo(8), can replace the directory in which it works. A directory that
 * does not exist yet is accepted.
 * @throws PrestageError ERR_WORKPLACE
 */
export async function checkWorkplace(path: string): Promise<void> {
  const { fault } = await walkChain(path, 'caller');
  if (fault === undefined) return;
  throw new PrestageError(
    'ERR_WORKPLACE',
    `${resolve(path)} is not a safe place to work in: ${fault}`,
    'Name a directory that belongs to you and that other users cannot write to, or change its permissions with chmod and chown',
  );
}

/**
 * Creates the directory in which a command works, and checks it again afterwards: another user may have created it in the meantime.
 * @throws PrestageError ERR_WORKPLACE
 */
export async function makeWorkplace(path: string): Promise<void> {
  await checkWorkplace(path);
  await mkdir(path, { recursive: true });
  await checkWorkplace(path);
}

function partsOf(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
