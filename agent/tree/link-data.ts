import { lstat, mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import { messageOf, PrestageError } from '../model/errors.ts';

/** Files that are looked at at a time. */
const PARALLEL = 64;

/** Those of the paths that are plain files: a registry would follow a link, to whatever its container can read. */
export async function plainFiles(from: string, paths: readonly string[]): Promise<readonly string[]> {
  const limit = pLimit(PARALLEL);
  const isPlain = async (path: string): Promise<boolean> => (await lstat(join(from, path)).catch(() => undefined))?.isFile() === true;
  const found = await Promise.all(paths.map((path) => limit(async () => ((await isPlain(path)) ? [path] : []))));
  return found.flat();
}

/**
 * Links the directory of each blob into another tree, so that what goes from there goes from this one.
 * @param from the top of the other tree, by the path that the registry sees
 * @throws PrestageError ERR_SPACE_MEMORY
 */
export async function linkData(to: string, from: string, paths: readonly string[]): Promise<void> {
  const limit = pLimit(PARALLEL);
  const folders = new Set(paths.map((path) => dirname(dirname(join(to, path)))));
  for (const folder of folders) await placed(folder, async () => void (await mkdir(folder, { recursive: true, mode: 0o755 })));
  await Promise.all(
    paths.map((path) =>
      limit(async () => {
        const link = dirname(join(to, path));
        await placed(link, async () => await symlink(dirname(join(from, path)), link));
      }),
    ),
  );
}

async function placed(path: string, place: () => Promise<void>): Promise<void> {
  try {
    await place();
  } catch (cause) {
    throw noRoom(path, cause);
  }
}

/** The fault when memory is short for a copy. */
export function noRoom(path: string, cause: unknown): PrestageError {
  return new PrestageError(
    'ERR_SPACE_MEMORY',
    `the links and manifests of the registry cannot be copied into memory, ${path}: ${messageOf(cause)}`,
    'Free memory below /run, or give the node more',
    { cause },
  );
}
