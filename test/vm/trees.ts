import { chmod, copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { makeImage } from '../boot/disk.ts';
import { makeNodeRoot } from '../boot/root.ts';
import { cached } from '../support/cache.ts';

/** What a virtual machine starts from. It is kept between runs: never write there. */
export interface MachineFiles {
  /** Image of an ext4 with the root of a node, which the machine has as its first disk, read-only. */
  readonly rootImage: string;
  readonly kernel: string;
  readonly initrd: string;
}

/** The kernel with its drivers for virtual machines alone, udev, device-mapper, and what answers when we ask from outside. */
const PACKAGES = ['linux-image-cloud-amd64', 'udev', 'dmsetup', 'qemu-guest-agent', 'busybox-static', 'kmod', 'cpio', 'xz-utils'];
const ROOT_MIB = 2048;
const LIMIT_MS = 600_000;
const guest = join(import.meta.dirname, 'guest');

export async function machineFiles(): Promise<MachineFiles> {
  const makers = [import.meta.filename, join(import.meta.dirname, '../boot/root.ts'), ...(await filesOf(guest))];
  const directory = await cached({ name: 'vm-root', makers }, makeMachineFiles);
  return { rootImage: join(directory, 'root.img'), kernel: join(directory, 'vmlinuz'), initrd: join(directory, 'initrd') };
}

async function makeMachineFiles(directory: string): Promise<void> {
  const root = join(directory, 'root');
  await makeNodeRoot(root, PACKAGES);
  // Devices come from the kernel and udev.
  await rm(join(root, 'etc/tmpfiles.d/loops.conf'));
  const boot = await readdir(join(root, 'boot'));
  await copyFile(join(root, 'boot', boot.find((name) => name.startsWith('vmlinuz')) ?? 'vmlinuz'), join(directory, 'vmlinuz'));
  for (const name of ['make-initrd.sh', 'init.sh']) await copyFile(join(guest, name), join(root, 'tmp', name));
  await output(execOnLinux, 'chroot', [root, 'sh', '/tmp/make-initrd.sh', '/tmp/init.sh', '/tmp/initrd'], { timeoutMs: LIMIT_MS });
  await rename(join(root, 'tmp/initrd'), join(directory, 'initrd'));
  for (const place of ['boot', 'tmp']) {
    await rm(join(root, place), { recursive: true });
    await mkdir(join(root, place));
  }
  await chmod(join(root, 'tmp'), 0o1777);
  const image = await makeImage(join(directory, 'root.img'), ROOT_MIB);
  await output(execOnLinux, 'mkfs.ext4', ['-q', '-L', 'node', '-d', root, image], { timeoutMs: LIMIT_MS });
  await rm(root, { recursive: true });
}

async function filesOf(directory: string): Promise<readonly string[]> {
  return (await readdir(directory)).toSorted().map((name) => join(directory, name));
}
