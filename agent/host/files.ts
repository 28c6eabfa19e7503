import { lstat, readFile, stat } from 'node:fs/promises';

/** Handles the error for a missing file or directory by returning another value; rethrows any other error. */
export function ifMissing<T>(instead: () => T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return instead();
    throw error;
  };
}

/** The text of a file; undefined if it does not exist. @throws NodeJS.ErrnoException for any other refusal of the kernel */
export async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch(ifMissing(() => undefined));
}

/** Whether the path exists, as an entry of any type: a symbolic link counts, even if its target does not exist. */
export async function isThere(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined;
}

/** Whether the path is a directory, or a symbolic link to one. */
export async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

/** True for a real directory only: not for a symbolic link. */
export async function isRealDirectory(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() === true;
}
