import { createHash } from 'node:crypto';
import { lstat, mkdir, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PrestageError } from '../model/errors.ts';

/** Directories on the way to an inner path, outermost first: `a`, `a/b` for `a/b/c`. Pure. */
function parentsOf(path: string): readonly string[] {
  const parts = path.split('/').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

/**
 * Finds obstacles: links, files or mounts where directories are needed, and directories where files are needed. Nothing is written through them, so a
 * crafted partition cannot redirect writes outside of itself. One line for each obstacle.
 */
export async function obstaclesAt(top: string, paths: readonly string[]): Promise<readonly string[]> {
  const { dev } = await lstat(top);
  const parents = [...new Set(paths.flatMap(parentsOf))];
  const inTheWay = await Promise.all(
    parents.map(async (path) => {
      const found = await lookAt(join(top, path));
      return found === undefined || (found.isDirectory() && found.dev === dev)
        ? []
        : [`${join(top, path)} is not a directory on the partition itself`];
    }),
  );
  const directories = await Promise.all(
    paths.map(async (path) => ((await lookAt(join(top, path)))?.isDirectory() === true ? [`${join(top, path)} is a directory`] : [])),
  );
  return [...inTheWay.flat(), ...directories.flat()];
}

/** Makes the parent directories of an inner path, and checks that none of them is a link. */
export async function makeParents(top: string, path: string): Promise<void> {
  for (const parent of parentsOf(path)) {
    await mkdir(join(top, parent)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    const found = await lstat(join(top, parent));
    if (!found.isDirectory())
      throw new PrestageError(
        'ERR_PARTITION_WRITE',
        `${join(top, parent)} is not a directory`,
        'Create the partition again: prestage-agent partition create DEVICE --replace',
      );
  }
}

/** Removes a file or a link, and then its parent directories that are empty. Never follows a link or enters a mount. */
export async function removeInner(top: string, path: string): Promise<void> {
  const parents = parentsOf(path);
  const { dev } = await lstat(top);
  for (const parent of parents) {
    const found = await lookAt(join(top, parent));
    if (found?.isDirectory() !== true || found.dev !== dev) return;
  }
  const found = await lookAt(join(top, path));
  if (found !== undefined && !found.isDirectory()) await rm(join(top, path));
  for (const parent of parents.toReversed()) {
    const isGone = await rmdir(join(top, parent)).then(
      () => true,
      () => false,
    );
    if (!isGone) return;
  }
}

async function lookAt(path: string) {
  return await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
}

/** Temporary path of a file, beside its final one. It is fixed, so that the next write finds leftovers. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.prestage-partial-${createHash('sha256').update(path).digest('hex').slice(0, 16)}`);
}
