import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { walkChain } from '../host/chain.ts';
import { type Host, hostPath } from '../host/host.ts';
import { canonical, readMounts } from '../host/mount-table.ts';
import { holdsMounts } from '../host/mounts.ts';
import { makePrivateDirectory } from '../host/private-directory.ts';
import { makeEmptyDirectory, removeTree } from '../host/remove-tree.ts';
import { spaceAt } from '../host/space.ts';
import { PrestageError } from '../model/errors.ts';
import { fitsInMemory } from './preflight.ts';

/**
 * Where blobs lie while they are loaded: in memory if it is large enough, so that a disk is not written twice. Both directories belong to the agent,
 * and only root can write to them (own-places.ts); /dev/shm is not used, because everybody can write to it.
 */
const IN_MEMORY = '/run/prestage-agent/scratch';
const ON_DISK = '/var/lib/prestage-agent/scratch';
/** Name of the agent's directory below the one that is set. */
const NAME = 'prestage-agent-scratch';

/**
 * Makes sure that only root can write to the scratch directory that is set, and to each directory above it, because root deletes there.
 * @returns the canonical path of the directory, which need not exist yet; undefined if none is set
 * @throws PrestageError ERR_SCRATCH; nothing was touched
 */
export async function checkScratch(host: Pick<Host, 'root'>, wanted: string | undefined): Promise<string | undefined> {
  if (wanted === undefined) return undefined;
  // A root other than `/` is not a node: it belongs to the person who set it.
  const { path, missing, fault } = await walkChain(wanted, host.root === '/' ? 'alone' : 'caller');
  if (fault === undefined) return join(path, ...missing);
  throw new PrestageError(
    'ERR_SCRATCH',
    `the scratch directory ${wanted} cannot be used, because users other than root could replace what root writes and deletes there: ${fault}`,
    'Give --scratch below a directory that only root can write to, such as /var/lib, or leave it out',
  );
}

/**
 * The scratch directory for a run: the one that is set, otherwise the best one of this machine.
 * @throws PrestageError ERR_SCRATCH
 */
export async function chooseScratch(
  host: Host,
  wanted: string | undefined,
  needs: { readonly bytes: number; readonly memoryBytes: number },
): Promise<string> {
  const checked = await checkScratch(host, wanted);
  if (checked !== undefined) return join(checked, NAME);
  const inMemory = hostPath(host, IN_MEMORY);
  return fitsInMemory(await spaceAt(inMemory), needs.bytes, needs.memoryBytes) ? inMemory : hostPath(host, ON_DISK);
}

/**
 * Removes what a killed run may have left in any of the directories; a directory with a mount in it is left alone.
 * @throws PrestageError ERR_SCRATCH, ERR_REMOVE
 */
export async function reclaimScratch(host: Host, wanted: string | undefined): Promise<void> {
  const checked = await checkScratch(host, wanted);
  const places = [...(checked === undefined ? [] : [join(checked, NAME)]), hostPath(host, IN_MEMORY), hostPath(host, ON_DISK)];
  for (const place of places) {
    if (await holdsMounts(place)) host.log('warning', `${place} contains a mount and is not removed`);
    else await removeTree(place);
  }
}

/**
 * Makes the scratch directory, private, with an empty folder for skopeo's own temporary files in it.
 * @throws PrestageError ERR_SPACE_SCRATCH if something else is in its place
 */
export async function makeScratch(path: string): Promise<{ readonly path: string; readonly temporary: string }> {
  await makePrivateDirectory(path);
  const found = await lstat(path);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new PrestageError(
      'ERR_SPACE_SCRATCH',
      `${path} is not a directory of this user`,
      'Remove it, or give another directory with --scratch',
    );
  }
  const temporary = temporaryOf(path);
  await makeEmptyDirectory(temporary);
  return { path, temporary };
}

/** Removes the scratch directory with its contents; if somebody mounted it for the agent, only the contents. */
export async function removeScratch(path: string): Promise<void> {
  const real = await canonical(path);
  const isMounted = (await readMounts()).some(({ target }) => target === real);
  await removeTree(isMounted ? temporaryOf(path) : path);
}

function temporaryOf(path: string): string {
  return join(path, 'tmp');
}
