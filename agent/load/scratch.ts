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
 * Where blobs lie on their way: in memory when it is large enough, so that no disk is written twice. Both places are the agent's own, which root
 * alone can write to (own-places.ts); /dev/shm, where everybody can, is none.
 */
const IN_MEMORY = '/run/prestage-agent/scratch';
const ON_DISK = '/var/lib/prestage-agent/scratch';
/** The directory of the agent in one that was asked for. */
const NAME = 'prestage-agent-scratch';

/**
 * Makes sure that root alone can write to the scratch directory that is asked for, and to each directory that leads there: root deletes there.
 * @returns the directory by its canonical path, which need not be there yet; undefined when none is asked for
 * @throws PrestageError ERR_SCRATCH; nothing was touched
 */
export async function checkScratch(host: Pick<Host, 'root'>, wanted: string | undefined): Promise<string | undefined> {
  if (wanted === undefined) return undefined;
  // Another root than `/` is no node: it lies where the person who set it works.
  const { path, missing, fault } = await walkChain(wanted, host.root === '/' ? 'alone' : 'caller');
  if (fault === undefined) return join(path, ...missing);
  throw new PrestageError(
    'ERR_SCRATCH',
    `the scratch directory ${wanted} cannot be used, because others than root could exchange what root writes and deletes there: ${fault}`,
    'Give --scratch below a directory that root alone can write to, such as /var/lib, or leave it out',
  );
}

/**
 * The scratch directory for a run: the one that is asked for, else the best of this machine.
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
 * Removes what a killed run may have left in any of the places; a place with something mounted in it is left alone.
 * @throws PrestageError ERR_SCRATCH, ERR_REMOVE
 */
export async function reclaimScratch(host: Host, wanted: string | undefined): Promise<void> {
  const checked = await checkScratch(host, wanted);
  const places = [...(checked === undefined ? [] : [join(checked, NAME)]), hostPath(host, IN_MEMORY), hostPath(host, ON_DISK)];
  for (const place of places) {
    if (await holdsMounts(place)) host.log('warning', `${place} holds a mount and is left alone`);
    else await removeTree(place);
  }
}

/**
 * Makes the scratch directory, private, with an empty folder for skopeo's own temporary files in it.
 * @throws PrestageError ERR_SPACE_SCRATCH where something else stands in its place
 */
export async function makeScratch(path: string): Promise<{ readonly path: string; readonly temporary: string }> {
  await makePrivateDirectory(path);
  const found = await lstat(path);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new PrestageError(
      'ERR_SPACE_SCRATCH',
      `${path} is not a directory of this user`,
      'Remove it, or give --scratch of another directory',
    );
  }
  const temporary = temporaryOf(path);
  await makeEmptyDirectory(temporary);
  return { path, temporary };
}

/** Removes the scratch directory with all that is in it; of one that somebody mounted for the agent, what is in it. */
export async function removeScratch(path: string): Promise<void> {
  const real = await canonical(path);
  const isMounted = (await readMounts()).some(({ target }) => target === real);
  await removeTree(isMounted ? temporaryOf(path) : path);
}

function temporaryOf(path: string): string {
  return join(path, 'tmp');
}
