import { cp, mkdtemp, readFile, rm, rmdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';

export interface DiskSpec {
  /** Where the image file and mount points come into being. */
  readonly directory: string;
  /** GPT name of the partition. */
  readonly label: string;
  /** Size of the whole disk in MiB; the file is sparse. */
  readonly sizeMiB?: number;
  /** Size of the partition in MiB, at the end of the disk. XFS needs 300. */
  readonly partitionMiB?: number;
  /** Number of the partition. */
  readonly number?: number;
  readonly filesystem?: 'xfs' | 'ext4' | 'none';
}

/** A disk image behind a loop device. The lease detaches the device and removes the image, also when the partition is still mounted. */
export interface TestDisk extends AsyncDisposable {
  /** `/dev/loopN` */
  readonly device: string;
  /** `/dev/loopNpM` */
  readonly partition: string;
}

/** Why disks cannot be made here, in words; undefined where they can. */
export async function disksUnavailable(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'loop devices need root';
  for (const tool of ['losetup', 'sgdisk', 'partx', 'mkfs.xfs', 'blkid']) {
    const found = await execOnLinux('sh', ['-c', 'command -v "$1"', 'sh', tool]);
    if (found.exitCode !== 0) return `${tool} is not installed`;
  }
  const free = await execOnLinux('losetup', ['-f']);
  return free.exitCode === 0 ? undefined : `no loop device is free: ${free.stderr.trim()}`;
}

/**
 * Makes a disk as the factory does: GPT, the labelled partition at its end, a file system on it. Where no udevd runs, there is no
 * `/dev/disk/by-partlabel` link, and lsblk(8) shows no PARTLABEL; `blkid -p` does.
 */
export async function makeDisk(spec: DiskSpec): Promise<TestDisk> {
  const number = spec.number ?? 5;
  const work = await mkdtemp(join(spec.directory, 'disk-'));
  const image = join(work, 'disk.img');
  await writeFile(image, '');
  await truncate(image, (spec.sizeMiB ?? 700) * 1024 * 1024);
  // Without -q: that makes no partitions.
  await output(execOnLinux, 'sgdisk', ['-n', `${number}:-${spec.partitionMiB ?? 400}M:0`, '-c', `${number}:${spec.label}`, image]);
  const device = (await output(execOnLinux, 'losetup', ['-fP', '--show', image])).trim();
  const partition = `${device}p${number}`;
  const disk: TestDisk = { device, partition, [Symbol.asyncDispose]: () => release(device, partition, work) };
  try {
    // The kernel keeps a write protection that somebody set on this loop device for an image before.
    await output(execOnLinux, 'blockdev', ['--setrw', device]);
    // Where the kernel reads GPT by itself the partition is there already, and partx says so.
    const added = await execOnLinux('partx', ['-a', device]);
    if (added.exitCode !== 0 && !/Device or resource busy|error adding/.test(added.stderr))
      throw new Error(`partx -a ${device}: ${added.stderr}`);
    if (spec.filesystem === 'ext4') await output(execOnLinux, 'mkfs.ext4', ['-q', partition]);
    if ((spec.filesystem ?? 'xfs') === 'xfs') await output(execOnLinux, 'mkfs.xfs', ['-q', '-f', partition]);
  } catch (error) {
    await disk[Symbol.asyncDispose]();
    throw error;
  }
  return disk;
}

/** Mounts the partition for writing, as the factory does, lets the caller fill it, and unmounts it. */
export async function fillDisk(disk: TestDisk, directory: string, fill: (mountPoint: string) => Promise<void>): Promise<void> {
  const mountPoint = await mkdtemp(join(directory, 'fill-'));
  await output(execOnLinux, 'mount', [disk.partition, mountPoint]);
  try {
    await fill(mountPoint);
  } finally {
    await output(execOnLinux, 'umount', [mountPoint]);
    await rmdir(mountPoint);
  }
}

/** Copies the content of a folder to the top of the partition. */
export function copyToDisk(disk: TestDisk, directory: string, folder: string): Promise<void> {
  return fillDisk(disk, directory, async (mountPoint) => {
    await cp(folder, mountPoint, { recursive: true });
  });
}

/** Where a device is mounted in this mount namespace. Source: proc_pid_mounts(5). */
export async function mountPointsOf(device: string): Promise<readonly string[]> {
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n');
  return lines.filter((line) => line.startsWith(`${device} `)).map((line) => (line.split(' ')[1] ?? '').replaceAll('\\040', ' '));
}

async function release(device: string, partition: string, work: string): Promise<void> {
  for (const mountPoint of await mountPointsOf(partition)) await execOnLinux('umount', [mountPoint]);
  await execOnLinux('partx', ['-d', device]);
  await output(execOnLinux, 'losetup', ['-d', device]);
  await rm(work, { recursive: true, force: true });
}
