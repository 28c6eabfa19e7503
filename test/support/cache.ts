import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** The top of the checkout. */
export const TOP = join(import.meta.dirname, '../..');

/** Where made fixtures are kept between runs; git ignores it. */
export const CACHE = join(TOP, '.cache');

export interface CacheKey {
  /** First part of the directory's name below the cache. */
  readonly name: string;
  /** The files that make the content, absolute: where one of them changes, the content is made again. */
  readonly makers: readonly string[];
  /** What else decides the content. */
  readonly salt?: string;
}

/**
 * A directory whose content is made once and kept. It comes into being whole, by a rename, so that several test processes can ask
 * at once; what older makers left under the name is removed.
 */
export async function cached(key: CacheKey, make: (directory: string) => Promise<void>): Promise<string> {
  const directory = join(CACHE, `${key.name}-${await hashOf(key)}`);
  if (existsSync(directory)) return directory;
  await removeStale(key.name, directory);
  const temporary = join(CACHE, `.${key.name}-${process.pid}-${randomBytes(4).toString('hex')}`);
  await mkdir(temporary, { recursive: true });
  try {
    await make(temporary);
    await rename(temporary, directory);
  } catch (error) {
    // Another process was faster: a directory that is not empty stands in the way of the rename.
    if (!existsSync(directory)) throw error;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return directory;
}

async function hashOf(key: CacheKey): Promise<string> {
  const hash = createHash('sha256').update(key.salt ?? '');
  for (const file of key.makers) hash.update(await readFile(file));
  return hash.digest('hex').slice(0, 16);
}

/** @param current may have been made by another process in this moment */
async function removeStale(name: string, current: string): Promise<void> {
  const entries = await readdir(CACHE).catch(() => []);
  const stale = entries.filter((entry) => entry.startsWith(`${name}-`) && /^[0-9a-f]{16}$/.test(entry.slice(name.length + 1)));
  for (const entry of stale) if (join(CACHE, entry) !== current) await rm(join(CACHE, entry), { recursive: true, force: true });
}
