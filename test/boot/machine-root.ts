import { existsSync } from 'node:fs';
import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { nodeRoot } from './root.ts';

/** The file tree of one machine, mounted. The lease unmounts it; what lies on a disk stays there. */
export interface MachineRoot extends AsyncDisposable {
  readonly path: string;
  /** Where its /usr comes from, which is bound over it read-only while it runs. */
  readonly usr: string;
  /** Its persistent journal, readable while it runs and afterwards. */
  readonly journal: string;
}

/**
 * A live system: everything but /usr lies in memory and is gone with the lease.
 * @param varMiB size of /var, which is a tmpfs as on the live ISO
 * @param lower another root than that of machines without a kernel of their own
 */
export async function ramRoot(work: string, varMiB: number, lower?: string): Promise<MachineRoot> {
  const top = await mkdtemp(join(work, 'ram-'));
  const [rw, variable] = [join(top, 'rw'), join(top, 'var')];
  const mounts = new MountStack();
  await mounts.add(['-t', 'tmpfs', '-o', 'size=256m,mode=0755', 'tmpfs', rw]);
  await mounts.add(['-t', 'tmpfs', '-o', `size=${varMiB}m,mode=0755`, 'tmpfs', variable]);
  return await assemble(mounts, { rw, variable, path: join(top, 'root') }, lower);
}

/** An installed system: what is not /usr lies on its root partition. @param lower as above */
export async function diskRoot(work: string, partition: string, lower?: string): Promise<MachineRoot> {
  const top = await mkdtemp(join(work, 'disk-'));
  const sysroot = join(top, 'sysroot');
  const mounts = new MountStack();
  await mounts.add([partition, sysroot]);
  return await assemble(mounts, { rw: join(sysroot, 'deploy'), variable: join(sysroot, 'var'), path: join(top, 'root') }, lower);
}

interface Places {
  readonly rw: string;
  readonly variable: string;
  readonly path: string;
}

async function assemble(mounts: MountStack, { rw, variable, path }: Places, from?: string): Promise<MachineRoot> {
  const lower = from ?? (await nodeRoot());
  const [upper, scratch] = [join(rw, 'upper'), join(rw, 'work')];
  for (const directory of [upper, scratch, variable]) await mkdir(directory, { recursive: true });
  if (!existsSync(join(variable, '.updated'))) await output(execOnLinux, 'cp', ['-a', `${lower}/var/.`, variable]);
  await mounts.add(['-t', 'overlay', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${scratch}`, 'overlay', path]);
  await mounts.add(['--bind', variable, join(path, 'var')]);
  return {
    path,
    usr: join(lower, 'usr'),
    journal: join(variable, 'log/journal'),
    [Symbol.asyncDispose]: () => mounts.release(),
  };
}

/** Mounts that are undone in the opposite order. */
class MountStack {
  readonly #points: string[] = [];

  /** @param args those of mount(8); the last one is the mount point, which is made where it is missing */
  async add(args: readonly string[]): Promise<void> {
    const point = args.at(-1) ?? '';
    await mkdir(point, { recursive: true });
    await output(execOnLinux, 'mount', args);
    this.#points.push(point);
  }

  async release(): Promise<void> {
    for (let point = this.#points.pop(); point !== undefined; point = this.#points.pop()) await output(execOnLinux, 'umount', [point]);
  }
}
