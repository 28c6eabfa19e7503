import type { Stats } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { walkChain } from './chain.ts';
import { exposureOf } from './exposure.ts';
import { type Host, hostPath } from './host.ts';
import { canonical, readMounts } from './mount-table.ts';

/** All that the agent keeps on a node lies below these. */
export const OWN_PLACES = ['/run/prestage-agent', '/var/lib/prestage-agent'];

/**
 * Makes sure that what lies in the agent's own directories can only have come from root, or from who runs the agent: it believes its records there,
 * mounts there and deletes there. Neither they nor anything directly in them may be a symbolic link, belong to somebody else, or be
 * writable for others; nor may a directory that leads there. What is mounted there is left out: the owner of a partition's files says nothing,
 * they are checked by digests. Directories that do not exist yet are in order.
 * @throws PrestageError ERR_PLACE
 */
export async function checkOwnPlaces(host: Host): Promise<void> {
  const tops = OWN_PLACES.map((place) => hostPath(host, place));
  const mounted = new Set((await readMounts()).map(({ target }) => target));
  for (const top of tops) {
    // Another root than `/` is no node: it lies where the person who set it works.
    const { fault, missing } = await walkChain(dirname(top), host.root === '/' ? 'alone' : 'caller');
    if (fault !== undefined) throw exposed(top, `${fault}, and leads to ${top}`);
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
  if (fault !== undefined) throw exposed(path, `${path} ${fault}`);
}

function exposed(path: string, fault: string): PrestageError {
  return new PrestageError(
    'ERR_PLACE',
    `${fault}: what lies there cannot be relied on`,
    `Find out who made it, remove it, and start again; where room is wanted elsewhere, mount a file system at ${path}`,
  );
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}
