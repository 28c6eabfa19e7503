import { lstat, mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** How many files are checked at one time. */
const PARALLEL = 64;

/** The paths that are plain files: a registry would follow a link to anything that its container can read. */
export async function plainFiles(from: string, paths: readonly string[]): Promise<readonly string[]> {
  const limit = pLimit(PARALLEL);
  const isPlain = async (path: string): Promise<boolean> => (await lstat(join(from, path)).catch(() => undefined))?.isFile() === true;
  const found = await Promise.all(paths.map((path) => limit(async () => ((await isPlain(path)) ? [path] : []))));
  return found.flat();
}

/**
 * Links the directory of each blob to that of another tree: a blob that is removed there is missing here, too.
 * @param from the top of the other tree, by the path that the registry uses
 * @throws PrestageError ERR_SPACE_MEMORY
 */
export async function linkData(to: string, from: string, paths: readonly string[]): Promise<void> {
  const limit = pLimit(PARALLEL);
  const folders = new Set(paths.map((path) => dirname(dirname(join(to, path)))));
  for (const folder of folders) await placeOrExplain(folder, async () => void (await mkdir(folder, { recursive: true, mode: 0o755 })));
  await Promise.all(
    paths.map((path) =>
      limit(async () => {
        const link = dirname(join(to, path));
        await placeOrExplain(link, async () => await symlink(dirname(join(from, path)), link));
      }),
    ),
  );
}

async function placeOrExplain(path: string, place: () => Promise<void>): Promise<void> {
  try {
    await place();
  } catch (cause) {
    throw noRoom(path, cause);
  }
}

/** The error if there is not enough memory for a copy. */
export function noRoom(path: string, cause: unknown): PrestageError {
  return new PrestageError(
    'ERR_SPACE_MEMORY',
    `${path}, a link or manifest of the registry, cannot be written to memory: ${reasonOf(cause)}`,
    'Free memory below /run, or give the node more memory',
    { cause },
  );
}
