import { lstat, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { removeTree } from '../../host/remove-tree.ts';
import { spaceAt } from '../../host/space.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../model/bundle.ts';
import { formatBytes } from '../../model/bytes.ts';
import { PrestageError } from '../../model/errors.ts';
import { reasonOf } from '../../model/system-error.ts';
import { BUILD_FOLDER } from './record.ts';

/** Everything that any build puts at the top of a bundle. */
const OWNED = ['oci', 'archives', 'registry', 'bin', 'prestage-agent'];
const STORE = 'store';

/**
 * Refuses a folder that holds something other than a bundle, finished or not. Writes nothing.
 * @throws PrestageError ERR_BUILD_OUTPUT
 */
export async function checkOutput(output: string, input: string): Promise<void> {
  if (output === input) throw refusalError(`${output} is also the folder to build from`);
  const names: readonly string[] = await readdir(output).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw refusalError(`${output} cannot be read as a folder: ${reasonOf(error)}`, error);
  });
  const isBundle = [BUNDLE_FILE, PARTIAL_FILE, BUILD_FOLDER].some((name) => names.includes(name));
  // A file system that was made for the bundle has this folder at its top.
  if (isBundle || names.every((name) => name === 'lost+found')) return;
  throw refusalError(`${output} is not empty and not a bundle; it holds: ${names.toSorted().slice(0, 8).join(', ')}`);
}

/** Removes payloads of earlier builds that are no longer wanted. Touches only paths that a build makes. */
export async function removeStale(output: string, wanted: readonly string[]): Promise<void> {
  const inStore = await readdir(join(output, STORE)).catch(() => []);
  const candidates = [...OWNED, ...inStore.map((name) => `${STORE}/${name}`), ...(inStore.length === 0 ? [STORE] : [])];
  for (const path of candidates) {
    if (wanted.some((one) => one === path || one.startsWith(`${path}/`))) continue;
    await removeTree(join(output, path));
  }
}

/** Whether a file of one folder can be hard-linked in the other: both are on one file system. */
export async function onOneFileSystem(from: string, to: string): Promise<boolean> {
  await mkdir(to, { recursive: true });
  return (await lstat(from)).dev === (await lstat(to)).dev;
}

/**
 * Compares the space that a build needs with the free space, also if both folders are on one file system.
 * @throws PrestageError ERR_SPACE_BUILD
 */
export async function checkSpace(
  needs: { readonly outputBytes: number; readonly workBytes: number },
  output: string,
  work: string,
): Promise<void> {
  const [outputSpace, workSpace] = [await spaceAt(output), await spaceAt(work)];
  const isShared = outputSpace.id === workSpace.id;
  const checks = isShared
    ? [{ space: outputSpace, bytes: needs.outputBytes + needs.workBytes }]
    : [
        { space: outputSpace, bytes: needs.outputBytes },
        { space: workSpace, bytes: needs.workBytes },
      ];
  for (const { space, bytes } of checks) {
    if (bytes <= space.freeBytes) continue;
    throw new PrestageError(
      'ERR_SPACE_BUILD',
      `${space.path} has ${formatBytes(space.freeBytes)} free, but the build needs about ${formatBytes(bytes)} there`,
      'Free space, build fewer payloads at a time, or give another work directory with --work DIR',
    );
  }
}

function refusalError(message: string, cause?: unknown): PrestageError {
  return new PrestageError('ERR_BUILD_OUTPUT', message, 'Give a new or empty folder, or that of an earlier build, with --to', { cause });
}
