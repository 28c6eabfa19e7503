import { rmdir } from 'node:fs/promises';
import { quote } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import { mountsAt } from './mounted.ts';

/** A loop device releases its file some time after its last user has ended: number of tries, and the pause between two of them. */
const TRIES = 10;
const FORCED_TRIES = 2;
const PAUSE_MS = 100;

export interface UnmountOptions {
  /** A busy mount disappears at once and is released with its last user. umount(8), --lazy. */
  readonly isForced: boolean;
}

/**
 * Unmounts everything at exactly this path, also if mounted one over the other; nothing to do if nothing is mounted. Deletes nothing.
 * @throws PrestageError ERR_STORE_BUSY
 */
export async function unmountAll(host: Host, path: string, { isForced }: UnmountOptions): Promise<void> {
  for (let left = (await mountsAt(path)).length; left > 0; left--) {
    const stderr = await unmountOne(host, path, isForced ? FORCED_TRIES : TRIES);
    if (stderr === undefined) continue;
    const lazy = isForced ? await host.exec('umount', ['--lazy', path]) : undefined;
    if (lazy?.exitCode === 0) {
      host.log('warning', `${path} is in use (${stderr}); it is released with its last user`);
      continue;
    }
    throw new PrestageError(
      'ERR_STORE_BUSY',
      `${path} cannot be unmounted, because it is in use: ${stderr}`,
      `Stop what uses it, then run the command again: fuser -vm ${path} lists programs, podman ps and crictl ps list containers`,
    );
  }
}

/** The error of umount; undefined if it succeeded. */
async function unmountOne(host: Host, path: string, tries: number): Promise<string | undefined> {
  let stderr = '';
  for (let attempt = 0; attempt < tries; attempt++) {
    if (attempt > 0) await host.clock.sleep(PAUSE_MS);
    const result = await host.exec('umount', [path]);
    if (result.exitCode === 0) return undefined;
    stderr = quote(result.stderr);
  }
  return stderr;
}

/** Removes an empty mount point of ours; rmdir(2) refuses everything else. */
export async function removeMountPoint(path: string): Promise<void> {
  await rmdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTEMPTY' && error.code !== 'EBUSY') throw error;
  });
}
