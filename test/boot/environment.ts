import { mkdir, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';

/** Where all that a run of the boot tests makes lies. There is one run at a time, which test/support/run-alone.sh sees to. */
const WORK = join(tmpdir(), 'boot-machines');
const NETWORKS = '/run/netns';
/** Control groups of machines begin with this. */
export const GROUP_PREFIX = 'prestage-boot-';

/** What the machines of one run share. The lease takes away all that they left. */
export interface Environment extends AsyncDisposable {
  /** On a real file system, not on an overlay: containers-storage lies in it. */
  readonly work: string;
  /** A mount of the unified hierarchy of control groups, whichever the machine itself uses. */
  readonly groups: string;
}

/** Starts clean, also after a run that was killed. Mounts need no care: package.json gives a run a mount namespace of its own. */
export async function openEnvironment(): Promise<Environment> {
  await detachLeftLoops(WORK);
  await rm(WORK, { recursive: true, force: true });
  const groups = join(WORK, 'cgroup');
  await mkdir(groups, { recursive: true });
  await output(execOnLinux, 'mount', ['-t', 'cgroup2', 'cgroup2', groups]);
  await removeLeftGroups(groups);
  // ip-netns(8) leaves its files there when it is killed.
  await mkdir(NETWORKS, { recursive: true });
  await output(execOnLinux, 'mount', ['-t', 'tmpfs', 'tmpfs', NETWORKS]);
  return {
    work: WORK,
    groups,
    [Symbol.asyncDispose]: async () => {
      await removeLeftGroups(groups);
      for (const point of [groups, NETWORKS]) await output(execOnLinux, 'umount', [point]);
      await rm(WORK, { recursive: true, force: true });
    },
  };
}

/** Removes a control group with those below it; groups that hold processes stay. */
export async function removeGroup(group: string): Promise<void> {
  const entries = await readdir(group, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeGroup(join(group, entry.name));
  await rmdir(group).catch(() => {});
}

async function removeLeftGroups(groups: string): Promise<void> {
  for (const name of await readdir(groups)) if (name.startsWith(GROUP_PREFIX)) await removeGroup(join(groups, name));
}

/** Detaches the loop devices of disk images below a directory, which a run that was killed has left. */
export async function detachLeftLoops(work: string): Promise<void> {
  for (const name of await readdir('/sys/block')) {
    const file = await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8').catch(() => '');
    if (!file.startsWith(`${work}/`)) continue;
    await execOnLinux('partx', ['-d', `/dev/${name}`]);
    await execOnLinux('losetup', ['-d', `/dev/${name}`]);
  }
}
