import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execOnLinux, output } from '../../agent/host/exec.ts';

export const FILE_SYSTEMS = ['xfs', 'ext4'] as const;
export type FileSystem = (typeof FILE_SYSTEMS)[number];

/**
 * What a power cut takes: `log` leaves the metadata of the last moments and loses the data (a file that was renamed into place without fsync comes
 * back empty), `all` loses both. Source: xfs_io(8), shutdown with and without -f; the ioctl is the same for ext4.
 */
export const CUTS = ['all', 'log'] as const;
export type Cut = (typeof CUTS)[number];
const SHUTDOWN: Readonly<Record<Cut, string>> = { all: 'shutdown', log: 'shutdown -f' };

/** A file system on a loop device whose power can be cut. The lease unmounts it and removes its file. */
export interface CutDisk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly directory: string;
  /** From here on nothing reaches the disk any more, and everybody at work on it gets EIO. */
  cut(what: Cut): Promise<void>;
  /** Mounts it anew, as the next boot does. Nobody may be using it. */
  reboot(): Promise<void>;
  /** Writes all that was done so far to the disk. */
  sync(): Promise<void>;
}

/** An unmount is tried so often: processes that were killed hold it until they are gone. */
const TRIES = 100;
const PAUSE_MS = 100;
const SIZE_BYTES = 1024 ** 3;

/** Makes a disk in a directory of its own. It must run in a mount namespace of its own: see inOwnMounts. */
export async function makeCutDisk(fileSystem: FileSystem): Promise<CutDisk> {
  const work = await mkdtemp(join(tmpdir(), 'cut-'));
  const [image, directory] = [join(work, 'disk.img'), join(work, 'disk')];
  await mkdir(directory);
  await writeFile(image, '');
  await truncate(image, SIZE_BYTES);
  await output(execOnLinux, `mkfs.${fileSystem}`, ['-q', image]);
  const mount = async (): Promise<void> => void (await output(execOnLinux, 'mount', ['-o', 'loop', image, directory]));
  await mount();
  return {
    directory,
    cut: async (what) => await cutPower(directory, what),
    reboot: async () => {
      await unmount(directory);
      await mount();
    },
    sync: async () => void (await output(execOnLinux, 'sync', ['--file-system', directory])),
    [Symbol.asyncDispose]: async () => {
      await unmount(directory);
      await rm(work, { recursive: true });
    },
  };
}

/** Cuts the power of whatever is mounted at a directory. */
async function cutPower(directory: string, what: Cut): Promise<void> {
  await output(execOnLinux, 'xfs_io', ['-x', '-c', SHUTDOWN[what], directory]);
}

/**
 * Cuts the power of a device at a place where it was seen mounted, unless it has been unmounted since: what lies below a mount point is the file
 * system of this machine.
 */
export async function cutPowerOf(device: string, directory: string, what: Cut): Promise<void> {
  const script =
    'command exec 9<"$1" || exit 0; [ "$(stat -L -c %Hd:%Ld /proc/self/fd/9)" = "$(stat -L -c %Hr:%Lr "$2")" ] || exit 0; exec xfs_io -x -c "$3" /proc/self/fd/9';
  await output(execOnLinux, 'sh', ['-c', script, 'sh', directory, device, SHUTDOWN[what]]);
}

/** With what engines that were killed have left mounted below: a boot finds no mounts. */
async function unmount(directory: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const { exitCode, stderr } = await execOnLinux('umount', ['--recursive', directory]);
    if (exitCode === 0 || /not mounted/.test(stderr)) return;
    if (attempt === TRIES) throw new Error(`${directory} does not unmount: ${stderr}`);
    await sleep(PAUSE_MS);
  }
}
