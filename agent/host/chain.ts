import type { Stats } from 'node:fs';
import { lstat, mkdir, readlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { exposureOf, isKeeper, isSharedByAll, type Standard } from './exposure.ts';

/** The directories that lead to a path, as far as they are there. */
export interface Chain {
  /** The canonical path of the last of them. */
  readonly path: string;
  /** What of the path is not there yet, the outermost first. */
  readonly missing: readonly string[];
  /** In the last of them everybody can make names: what has one there belongs to anybody. */
  readonly isShared: boolean;
  /** Which of them others than those of the standard can exchange, and why, in words; the walk ended before it. */
  readonly fault: string | undefined;
}

/** As many as Linux follows. Source: path_resolution(7). */
const MAX_LINKS = 40;

/**
 * Walks from `/` to a directory and looks at each directory and link on the way. A chain without a fault can be exchanged by nobody but those
 * of the standard, so its canonical path goes on leading to the same place.
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
    // What is no directory leads to nothing: who makes something below it hears so of the system.
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
    if (++links > MAX_LINKS) return chain(`${next} is one of more than ${MAX_LINKS} links`);
    const target = await readlink(next);
    left.unshift(...partsOf(target));
    if (target.startsWith('/')) [at, found] = ['/', await lstat('/')];
  }
  return chain();
}

function faultOf(path: string, found: Stats, above: { readonly standard: Standard; readonly isShared: boolean }): string | undefined {
  const { standard, isShared } = above;
  if (found.isSymbolicLink()) return isKeeper(found.uid, standard) ? undefined : `${path} is a symbolic link of the user ${found.uid}`;
  const exposure = exposureOf(found, standard);
  if (exposure === undefined) return undefined;
  return `${path} ${exposure}${isShared ? ', in a directory that everybody can write to' : ''}`;
}

/**
 * Makes sure that nobody but who runs a command, or calls it by sudo(8), can exchange the directory that it is to work in. What is not there
 * yet is in order.
 * @throws PrestageError ERR_WORKPLACE
 */
export async function checkWorkplace(path: string): Promise<void> {
  const { fault } = await walkChain(path, 'caller');
  if (fault === undefined) return;
  throw new PrestageError(
    'ERR_WORKPLACE',
    `${resolve(path)} is not a safe place to work in: ${fault}`,
    'Name a directory that belongs to you and that others cannot write to, or take their permission away with chmod and chown',
  );
}

/**
 * Makes the directory that a command is to work in, and looks at it once it is there: its name may have been taken in the meantime.
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
