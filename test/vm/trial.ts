import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { detachLeftLoops } from '../boot/environment.ts';
import { type Factory, openFactory } from '../boot/factory.ts';
import { startMachine, type VirtualMachine, type VirtualMachineOptions } from './machine.ts';
import { qemuTree } from './qemu-tree.ts';
import { machineFiles } from './trees.ts';

/** Where all that a run makes lies. There is one run at a time, which test/support/run-alone.sh sees to. */
const WORK = join(tmpdir(), 'virtual-machines');

/** What tells nobody anything: our own questions, and podman's word of every container. */
const CHATTER = / (?:qemu-ga\[\d+\]: info|podman\[\d+\]: \d{4}-.* (?:container|image|system)|systemd\[1\]: .*\.mount: Deactivated)/;

/** What the parts of a run share. The lease takes away all that they left. */
export interface VmTrial extends AsyncDisposable {
  readonly factory: Factory;
  readonly work: string;
  /** The root of a machine, mounted read-only: configs are applied to what lies over it. */
  readonly lower: string;
  readonly signal: AbortSignal;
  /** What has to be told of a run that went well. */
  readonly notes: string[];
  /** Starts a machine with disks /dev/vdb and on; words are for guest/init.sh. */
  start(options: Pick<VirtualMachineOptions, 'words' | 'disks'>): Promise<VirtualMachine>;
}

/** Starts clean, also after a run that was killed: its mounts and machines have ended with its namespaces. */
export async function openVmTrial(executable: string, signal: AbortSignal): Promise<VmTrial> {
  await detachLeftLoops(WORK);
  await rm(WORK, { recursive: true, force: true });
  const [lower, files, tree] = [join(WORK, 'lower'), await machineFiles(), await qemuTree()];
  await mkdir(lower, { recursive: true });
  await output(execOnLinux, 'mount', ['-o', 'ro,loop', files.rootImage, lower]);
  return {
    factory: await openFactory(WORK, executable),
    work: WORK,
    lower,
    signal,
    notes: [],
    start: async (options) => await startMachine({ ...options, files, tree, work: WORK, signal }),
    [Symbol.asyncDispose]: async () => {
      await output(execOnLinux, 'umount', [lower]);
      await rm(WORK, { recursive: true, force: true });
    },
  };
}

/** Starts a machine, does something with it and takes it down. What fails meanwhile is told with the end of its journal. */
export async function withVm<T>(
  trial: VmTrial,
  options: Pick<VirtualMachineOptions, 'words' | 'disks'>,
  act: (machine: VirtualMachine) => Promise<T>,
): Promise<T> {
  await using machine = await trial.start(options);
  try {
    return await act(machine);
  } catch (error) {
    const journal = await machine.run(['journalctl', '-b', '--no-pager', '-o', 'short-monotonic', '-n', '400']).catch(() => undefined);
    const lines = (journal?.stdout ?? 'the machine does not answer').split('\n').filter((line) => !CHATTER.test(line));
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n--- end of the journal:\n${lines.slice(-80).join('\n')}`, {
      cause: error,
    });
  }
}
