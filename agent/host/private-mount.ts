import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from './acts.ts';
import { type Host, hostPath } from './host.ts';
import { type MountLease, mountReadOnly, mountWritable, unmount } from './mounts.ts';
import { checkOwnPlaces } from './own-places.ts';
import { makePrivateDirectory } from './private-directory.ts';

/** Below it every process has its own mount points, named after its pid. */
const TARGETS = '/run/prestage-agent/partitions';

let count = 0;

/**
 * A mount point that no other process uses.
 * @throws PrestageError ERR_PLACE
 */
export async function privateTarget(host: Host): Promise<string> {
  await checkOwnPlaces(host);
  const top = hostPath(host, TARGETS);
  await makePrivateDirectory(top);
  return join(top, `${process.pid}-${count++}`);
}

export interface PrivateMount {
  readonly device: string;
  readonly fileSystem: string;
  readonly readOnly: boolean;
  readonly act: Act;
}

/**
 * Mounts a partition at a mount point of this process. The lease unmounts it.
 * @throws PrestageError ERR_PARTITION_MOUNT
 */
export async function mountPrivately(host: Host, { device, fileSystem, readOnly, act }: PrivateMount): Promise<MountLease> {
  const request = { device, fileSystem, target: await privateTarget(host) };
  const mount = await act('mount-target', async () => await (readOnly ? mountReadOnly : mountWritable)(host, request));
  return {
    path: mount.path,
    [Symbol.asyncDispose]: async () => await act('unmount-target', async () => await mount[Symbol.asyncDispose]()),
  };
}

/** Unmounts leftovers of killed processes. Otherwise their partition would count as busy, and their image as attached. */
export async function reclaimTargets(host: Host): Promise<void> {
  const top = hostPath(host, TARGETS);
  for (const name of await readdir(top).catch(() => [])) if (!isAlive(name)) await unmount(host, join(top, name));
}

function isAlive(name: string): boolean {
  return existsSync(join('/proc', name.split('-')[0] ?? ''));
}
