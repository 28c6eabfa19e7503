import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { atPath } from '../model/system-error.ts';

/**
 * Writes a file so that a reader, even after a power cut, sees either the old or the new content: temporary file in the same directory, fsync,
 * rename, fsync of the directory. Creates the directory if it is missing.
 * @param mode permission bits, before the umask
 */
export async function writeAtomic(path: string, content: string | Uint8Array, mode = 0o644): Promise<void> {
  const directory = dirname(path);
  await mkdir(directory, { recursive: true });
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    await using file: FileHandle = await open(temporary, 'wx', mode);
    await file.writeFile(content);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    // Report the first failure, not one of the clean-up.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw atPath(error, path);
  }
  await syncDirectory(directory);
}

/** Removes temporary files of killed writers from a directory. No other process may be writing there. */
export async function removeTemporaries(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const name of names.filter(isTemporary)) await rm(join(directory, name), { force: true });
}

/** Whether this is the name of a temporary file of `writeAtomic`. */
export function isTemporary(name: string): boolean {
  return /^\..+\.[0-9a-f]{12}\.tmp$/.test(name);
}

/** Makes renames and removals in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory: FileHandle = await open(path, 'r');
  await directory.sync().catch((error: unknown) => {
    throw atPath(error, path);
  });
}
