import { stat } from 'node:fs/promises';
import type { Act } from '../host/acts.ts';
import { quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { makePrivateDirectory } from '../host/private-directory.ts';
import { PrestageError } from '../model/errors.ts';
import { DATA_PATH } from '../model/places.ts';
import { bindMountArgs } from './mount-argv.ts';
import { isReadOnly, mountsAt } from './mounted.ts';
import { removeMountPoint, unmountAll } from './unmount.ts';

/**
 * Binds the directory of a bundle to DATA_PATH, read-only, so that it can be read after the run has released the partition. Nothing to do if the
 * same directory is bound already.
 * @returns the path where the directory is bound
 * @throws PrestageError ERR_STORE_MOUNT, ERR_STORE_BUSY if another directory is bound there and in use
 */
export async function bindData(host: Host, bundleDirectory: string, act: Act): Promise<string> {
  const path = hostPath(host, DATA_PATH);
  if ((await mountsAt(path)).length > 0) {
    if ((await isSameDirectory(path, bundleDirectory)) && (await isReadOnly(path))) return path;
    await act('unmount-data', async () => await unmountAll(host, path, { isForced: false }));
  }
  await act('bind-data', async () => {
    await makePrivateDirectory(path);
    const bound = await host.exec('mount', bindMountArgs(bundleDirectory, path));
    if (bound.exitCode !== 0 || !(await isReadOnly(path))) {
      throw new PrestageError(
        'ERR_STORE_MOUNT',
        `${bundleDirectory} cannot be bound read-only to ${path}: ${quote(bound.stderr) || 'it stays writable'}`,
        `Run by hand to see why: mount ${bindMountArgs(bundleDirectory, path).join(' ')}`,
      );
    }
  });
  return path;
}

/**
 * Removes the binding, so that the partition is free; nothing to do if there is none.
 * @throws PrestageError ERR_STORE_BUSY if something reads from it
 */
export async function unbindData(host: Host, act: Act): Promise<void> {
  const path = hostPath(host, DATA_PATH);
  if ((await mountsAt(path)).length === 0) return;
  await act('unmount-data', async () => {
    await unmountAll(host, path, { isForced: false });
    await removeMountPoint(path);
  });
}

async function isSameDirectory(one: string, other: string): Promise<boolean> {
  const [a, b] = await Promise.all([one, other].map((path) => stat(path).catch(() => undefined)));
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino;
}
