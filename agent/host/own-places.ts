import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { walkChain } from './chain.ts';
import { exposureOf } from './exposure.ts';
import { type Host, hostPath } from './host.ts';
import { canonical, readMounts } from './mount-table.ts';

/** The directories that hold all files of the agent on a node. */
export const OWN_PLACES = ['/run/prestage-agent', '/var/lib/prestage-agent'];

/**
 * Makes sure that only root, or the user who runs the agent, can have created the files in the agent's own directories: the agent trusts its
 * records there, mounts there and deletes there. Neither these directories nor their direct entries may be a symbolic link, belong to another
 * user, or be writable for others; the same holds for their parent directories. Mounts there are not checked: the owner of files on a partition
 * means nothing, digests verify these files. Directories that do not exist yet are accepted.
 * @throws PrestageError ERR_PLACE
 */
export async function checkOwnPlaces(host: Host): Promise<void> {
  const tops = OWN_PLACES.map((place) => hostPath(host, place));
  const mounted = new Set((await readMounts()).map(({ target }) => target));
  for (const top of tops) {
    // A root other than `/` is not a node but a directory of the person who set it.
    const { fault, missing } = await walkChain(dirname(top), host.root === '/' ? 'alone' : 'caller');
    if (fault !== undefined) throw exposedError(top, `${fault}, and is on the path to ${top}`);
    if (missing.length > 0) continue;
    const found = await lstat(top).catch(unlessMissing);
    if (found === undefined) continue;
    check(top, found);
    const real = await canonical(top);
    for (const name of await readdir(top)) {
      if (mounted.has(join(real, name))) continue;
      const path = join(top, name);
      const inside = await lstat(path).catch(unlessMissing);
      if (inside !== undefined) check(path, inside);
    }
  }
}

function check(path: string, found: Stats): void {
  const fault = exposureOf(found);
  if (fault !== undefined) throw exposedError(path, `${path} ${fault}`);
}

function exposedError(path: string, fault: string): PrestageError {
  return new PrestageError(
    'ERR_PLACE',
    `${fault}: the agent cannot trust its content`,
    `Find out who created it, remove it, and start again; to use space elsewhere, mount a file system at ${path}`,
  );
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
