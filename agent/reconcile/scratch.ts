import { lstat, mkdir } from 'node:fs/promises';
import { emptyDir, remove } from 'fs-extra/esm';
import { type Host, hostPath } from '../host/host.ts';
import { holdsMounts } from '../host/mounts.ts';
import { spaceAt } from '../host/space.ts';
import { PrestageError } from '../model/errors.ts';
import { fitsInMemory } from './preflight.ts';

/** Where blobs lie on their way, best first: in memory where it is large enough, so that no disk is written twice. */
const IN_MEMORY = ['/run/prestage-agent/scratch', '/dev/shm/prestage-agent'] as const;
const ON_DISK = '/var/lib/prestage-agent/scratch';

/** The scratch directory for a run: the one that is asked for, else the best of this machine. */
export async function chooseScratch(
  host: Host,
  wanted: string | undefined,
  needs: { readonly bytes: number; readonly memoryBytes: number },
): Promise<string> {
  if (wanted !== undefined) return `${wanted}/prestage-agent-scratch`;
  for (const candidate of IN_MEMORY.map((path) => hostPath(host, path))) {
    if (fitsInMemory(await spaceAt(candidate), needs.bytes, needs.memoryBytes)) return candidate;
  }
  return hostPath(host, ON_DISK);
}

/** Removes what a killed run may have left in any of the places; a place with something mounted in it is left alone. */
export async function reclaimScratch(host: Host, wanted: string | undefined): Promise<void> {
  const places = [
    ...(wanted === undefined ? [] : [`${wanted}/prestage-agent-scratch`]),
    ...[...IN_MEMORY, ON_DISK].map((path) => hostPath(host, path)),
  ];
  for (const place of places) {
    if (await holdsMounts(place)) host.log('warning', `${place} holds a mount and is left alone`);
    else await remove(place);
  }
}

/**
 * Makes the scratch directory, private and empty, with the folder for skopeo's own temporary files in it.
 * @throws PrestageError ERR_SPACE_SCRATCH where something else stands in its place
 */
export async function makeScratch(path: string): Promise<{ readonly path: string; readonly temporary: string }> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  const found = await lstat(path);
  if (!found.isDirectory() || found.uid !== process.getuid?.()) {
    throw new PrestageError(
      'ERR_SPACE_SCRATCH',
      `${path} is not a directory of this user`,
      'Remove it, or give --scratch of another directory',
    );
  }
  const temporary = `${path}/tmp`;
  await emptyDir(temporary);
  return { path, temporary };
}

/** Removes the scratch directory with all that is in it. */
export async function removeScratch(path: string): Promise<void> {
  await remove(path);
}
