import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { CACHE, TOP } from '../support/cache.ts';
import { writeDirLayout } from '../support/images.ts';
import type { BenchSet } from './bench-images.ts';
import type { Subject } from './measure.ts';

export const EXECUTABLE = join(TOP, 'dist/prestage-agent-linux-x64');

/** Room for one contender: a disk of its own, and a tmpfs that stands for /run, as a node has it. The lease removes both. */
export interface Workplace extends AsyncDisposable {
  readonly graphroot: string;
  readonly runroot: string;
  /** The prototype's flow, so many images at a time. */
  prototype(bundle: string, imagesAtATime: number): Subject;
  /** The agent's run. */
  agent(bundle: string): Subject;
  /** skopeo alone, from `dir:` layouts that are unpacked already, one image after the other. */
  skopeo(set: BenchSet): Promise<Subject>;
}

/** More than a contender writes; the file is preallocated, so that the disk below has nothing to look for meanwhile. */
const DISK_SIZE = '16G';

export async function makeWorkplace(): Promise<Workplace> {
  await mkdir(CACHE, { recursive: true });
  const directory = await mkdtemp(join(CACHE, '.bench-work-'));
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    for (const mountPoint of await mountsBelow(directory)) await output(execOnLinux, 'umount', [mountPoint]);
    await rm(directory, { recursive: true, force: true });
  });
  const work = await mountNewDisk(directory);
  const root = join(work, 'root');
  const run = join(root, 'run');
  const graphroot = join(work, 'graphroot');
  const runroot = join(work, 'runroot');
  await mkdir(run, { recursive: true });
  await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=50%', 'tmpfs', run]);
  const storage = ['--graphroot', graphroot, '--runroot', runroot];
  const kept = stack.move();
  return {
    graphroot,
    runroot,
    prototype: (bundle, imagesAtATime) => ({
      argv: [
        join(import.meta.dirname, 'prototype.sh'),
        bundle,
        'ocp-images.txt',
        join(work, 'unpacked'),
        graphroot,
        runroot,
        String(imagesAtATime),
      ],
      work,
    }),
    agent: (bundle) => ({
      argv: [EXECUTABLE, 'run', '--stage', 'installed', '--root', root, '--bundle', bundle, ...storage],
      work,
      scratch: run,
    }),
    skopeo: async (set) => {
      const layouts = join(work, 'layouts');
      for (const image of set.images) await writeDirLayout(set.store, image, join(layouts, image.reference));
      const copy = 'for r; do skopeo copy -q "dir:$LAYOUTS/$r" "containers-storage:[overlay@$GRAPHROOT+$RUNROOT]$r" || exit; done';
      const env = [`LAYOUTS=${layouts}`, `GRAPHROOT=${graphroot}`, `RUNROOT=${runroot}`];
      return { argv: ['env', ...env, 'bash', '-c', copy, 'skopeo', ...set.images.map((image) => image.reference)], work };
    },
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  };
}

/**
 * An XFS, as nodes have it, that nobody has written to: what one contender deletes must not cost the next one time. On ext4 it does: an inode that
 * was deleted in the last minutes is passed over one by one, 5 of 62 s CPU of a run. Unmounted, its device goes by itself.
 */
async function mountNewDisk(directory: string): Promise<string> {
  const [image, mountPoint] = [join(directory, 'disk.img'), join(directory, 'disk')];
  await output(execOnLinux, 'fallocate', ['--length', DISK_SIZE, image]);
  await output(execOnLinux, 'mkfs.xfs', ['-q', image]);
  await mkdir(mountPoint);
  const device = (await output(execOnLinux, 'losetup', ['--find', '--show', '--direct-io=on', image])).trim();
  try {
    await output(execOnLinux, 'mount', [device, mountPoint]);
  } finally {
    await output(execOnLinux, 'losetup', ['--detach', device]);
  }
  return mountPoint;
}

/** Innermost first. Source: proc_pid_mounts(5). */
async function mountsBelow(directory: string): Promise<readonly string[]> {
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n');
  return lines
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${directory}/`))
    .reverse();
}
