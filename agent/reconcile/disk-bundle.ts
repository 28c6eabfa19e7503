import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { readBundle } from '../bundle/read-bundle.ts';
import type { StoreBundle } from '../bundle/stage-bundle.ts';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { BUNDLE_FILE } from '../model/bundle.ts';
import { DISK_BUNDLE_PATH } from '../model/places.ts';
import type { RunContext } from './context.ts';

/**
 * Keeps on the disk what a store image that was copied there needs besides: the bundle's manifest and the metadata mirror. So the partition may
 * go away. What is kept is checked each time it is used, as on the partition.
 */
export async function keepBundle(bundle: StoreBundle, { host, step }: RunContext): Promise<void> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  const manifest = await readFile(join(bundle.directory, BUNDLE_FILE));
  const kept = await readFile(join(path, BUNDLE_FILE)).catch(() => undefined);
  if (kept?.equals(manifest) === true) return;
  await step('keep-bundle', async () => {
    const partial = `${path}.new`;
    await rm(partial, { recursive: true, force: true });
    const mirror = join(partial, relative(bundle.directory, bundle.store.mirror.path));
    await mkdir(dirname(mirror), { recursive: true, mode: 0o700 });
    await cp(bundle.store.mirror.path, mirror, { recursive: true });
    await writeFile(join(partial, BUNDLE_FILE), manifest);
    await output(host.exec, 'sync', ['--file-system', partial]);
    await rm(path, { recursive: true, force: true });
    await rename(partial, path);
    await output(host.exec, 'sync', ['--file-system', dirname(path)]);
  });
}

/** The bundle that was kept; undefined where there is none that can be used. */
export async function keptBundle(host: Host, pinnedSha256: string | undefined): Promise<string | undefined> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (!existsSync(path)) return undefined;
  return await readBundle(path, pinnedSha256).then(
    () => path,
    () => undefined,
  );
}

/** Forgets it: the store image is not on the disk any more. */
export async function forgetBundle({ host, step }: RunContext): Promise<void> {
  const path = hostPath(host, DISK_BUNDLE_PATH);
  if (existsSync(path)) await step('forget-bundle', async () => await rm(path, { recursive: true, force: true }));
}
