import { mkdir, readdir, readFile, rmdir, truncate, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';

/** A disk image behind a loop device. The lease detaches it; the image stays. */
export interface AttachedDisk extends AsyncDisposable {
  readonly image: string;
  /** `/dev/loopN` */
  readonly device: string;
  /** The device and its partitions, as a machine gets them. */
  readonly nodes: readonly string[];
  /** The partition of a GPT name; undefined where there is none. */
  readonly partition: (label: string) => string | undefined;
}

/** An empty disk image; the file is sparse. */
export async function makeImage(image: string, sizeMiB: number): Promise<string> {
  await writeFile(image, '');
  await truncate(image, sizeMiB * 1024 * 1024);
  return image;
}

/** Attaches an image, with its partitions as its table has them now. */
export async function attachDisk(image: string): Promise<AttachedDisk> {
  const device = (await output(execOnLinux, 'losetup', ['-fP', '--show', image])).trim();
  // The kernel keeps a write protection that somebody set on this loop device for an image before.
  await output(execOnLinux, 'blockdev', ['--setrw', device]);
  // Fails where the kernel reads GPT by itself, because they are there already, and where there are none.
  await execOnLinux('partx', ['-a', device]);
  const partitions = await partitionsOf(device);
  const labels = new Map<string, string>();
  for (const partition of partitions) {
    const { stdout } = await execOnLinux('blkid', ['-p', '-s', 'PART_ENTRY_NAME', '-o', 'value', partition]);
    labels.set(stdout.trim(), partition);
  }
  return {
    image,
    device,
    nodes: [device, ...partitions],
    partition: (label) => labels.get(label),
    [Symbol.asyncDispose]: async () => {
      await execOnLinux('partx', ['-d', device]);
      await output(execOnLinux, 'losetup', ['-d', device]);
    },
  };
}

/** Several disks at once. */
export interface AttachedDisks extends AsyncDisposable {
  readonly all: readonly AttachedDisk[];
}

export async function attachDisks(images: readonly string[]): Promise<AttachedDisks> {
  await using stack = new AsyncDisposableStack();
  const all: AttachedDisk[] = [];
  for (const image of images) all.push(stack.use(await attachDisk(image)));
  const kept = stack.move();
  return { all, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Mounts the data partition of an image for writing and lets the caller change what lies on it. */
export async function editData(image: string, edit: (mountPoint: string) => Promise<void>): Promise<void> {
  await using disk = await attachDisk(image);
  const mountPoint = `${image}.mnt`;
  await mkdir(mountPoint);
  await output(execOnLinux, 'mount', [disk.partition('data') ?? '', mountPoint]);
  try {
    await edit(mountPoint);
  } finally {
    await output(execOnLinux, 'umount', [mountPoint]);
    await rmdir(mountPoint);
  }
}

/** Who holds a disk or a partition of it, in words: what would make an installer refuse it. Mounts are asked of a process's namespace. */
export async function holdersOf(disk: AttachedDisk, pid: number): Promise<readonly string[]> {
  const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8');
  const held: string[] = [];
  for (const node of [disk.device, ...(await partitionsOf(disk.device))]) {
    const numbers = (await output(execOnLinux, 'stat', ['-c', '%Hr:%Lr', node])).trim();
    for (const line of mounts.split('\n')) if (line.split(' ')[2] === numbers) held.push(`${node} is mounted at ${line.split(' ')[4]}`);
    for (const holder of await readdir(`/sys/class/block/${basename(node)}/holders`)) held.push(`${node} is held by ${holder}`);
  }
  const loops = await output(execOnLinux, 'losetup', ['--list', '--noheadings', '--raw', '--output', 'NAME,BACK-FILE']);
  const onDisk = new RegExp(` ${disk.device}(p\\d+)?$`);
  for (const line of loops.split('\n')) if (onDisk.test(line)) held.push(`a loop device stands on it: ${line}`);
  return held;
}

async function partitionsOf(device: string): Promise<readonly string[]> {
  const names = (await readdir('/dev')).filter((name) => name.startsWith(`${basename(device)}p`));
  return names.toSorted().map((name) => `/dev/${name}`);
}
