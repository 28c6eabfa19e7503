import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ExecResult, execOnLinux, output } from '../../agent/host/exec.ts';

/** A containers-storage of its own, that nobody else on this machine sees. */
export interface PrivateStorage extends AsyncDisposable {
  readonly graphroot: string;
  readonly runroot: string;
  /** The skopeo name of a reference in this storage. */
  name(reference: string): string;
  podman(...args: readonly string[]): Promise<ExecResult>;
  /** Runs a command in a new container of an image and gives what it printed. */
  run(reference: string, command: readonly string[]): Promise<string>;
}

/** Makes an empty storage below a directory (the temporary one where left out); the lease removes it. */
export async function privateStorage(directory = tmpdir()): Promise<PrivateStorage> {
  const work = await mkdtemp(join(directory, 'storage-'));
  const graphroot = join(work, 'graphroot');
  const runroot = join(work, 'runroot');
  const roots = ['--root', graphroot, '--runroot', runroot, '--storage-driver', 'overlay'];
  return {
    graphroot,
    runroot,
    name: (reference) => `containers-storage:[overlay@${graphroot}+${runroot}]${reference}`,
    podman: (...args) => execOnLinux('podman', [...roots, ...args]),
    run: (reference, command) => output(execOnLinux, ...inContainer([...roots], reference, command)),
    [Symbol.asyncDispose]: async () => {
      await execOnLinux('umount', [join(graphroot, 'overlay')]);
      await rm(work, { recursive: true, force: true });
    },
  };
}

/**
 * The argv of `podman run`, with what makes it work on a machine without CAP_SYS_RESOURCE and with hybrid cgroups: a mount
 * namespace in which the unified hierarchy is away, and limits that do not have to be raised.
 * @param roots podman's global options
 */
export function inContainer(roots: readonly string[], reference: string, command: readonly string[]): [string, readonly string[]] {
  const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];
  const podman = ['podman', ...roots, 'run', '--rm', '--pull=never', '--network=host', ...limits, reference, ...command];
  if (!hasHybridCgroups()) return ['podman', podman.slice(1)];
  return ['unshare', ['-m', 'sh', '-c', 'umount /sys/fs/cgroup/unified; exec "$@"', 'sh', ...podman]];
}

/** Whether the unified hierarchy stands beside the old ones, which crun refuses. Source: cgroups(7), "hybrid". */
export function hasHybridCgroups(): boolean {
  return existsSync('/sys/fs/cgroup/unified');
}
