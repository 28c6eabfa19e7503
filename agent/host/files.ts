import { lstat, readFile, stat } from 'node:fs/promises';

/** Handles the error for a missing file or directory by returning another value; rethrows any other error. */
export function ifMissing<T>(instead: () => T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return instead();
    throw error;
  };
}

/** The text of a file; undefined if it does not exist. @throws the refusal of the kernel, for any other reason */
export async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, 'utf8').catch(ifMissing(() => undefined));
}

/** Whether a directory has an entry of this name, whatever it is: a symbolic link counts, wherever it leads. */
export async function isThere(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined)) !== undefined;
}

/** Whether the path leads to a directory, perhaps through symbolic links. */
export async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

/** Whether the path itself is a directory: not a symbolic link to one. */
export async function isRealDirectory(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() === true;
}
