import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import { reclaimMount } from '../host/mounts.ts';

/** Below it every process has mount points of its own, named for its id. */
const TARGETS = '/run/prestage-agent/partitions';

let count = 0;

/** A mount point that no other process uses. */
export async function privateTarget(host: Host): Promise<string> {
  const top = hostPath(host, TARGETS);
  await mkdir(top, { recursive: true, mode: 0o700 });
  return join(top, `${process.pid}-${count++}`);
}

/** Unmounts what killed processes have left: a partition would count as busy, and an image as attached. */
export async function reclaimTargets(host: Host): Promise<void> {
  const top = hostPath(host, TARGETS);
  for (const name of await readdir(top).catch(() => [])) if (!isAlive(name)) await reclaimMount(host, join(top, name));
}

function isAlive(name: string): boolean {
  return existsSync(join('/proc', name.split('-')[0] ?? ''));
}
