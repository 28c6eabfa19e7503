import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ExecResult, execOnLinux, output } from '../../agent/host/exec.ts';
import { type Environment, GROUP_PREFIX, removeGroup } from './environment.ts';
import { lastLines } from './journal.ts';
import type { MachineRoot } from './machine-root.ts';
import { ENTER_GROUP, NSPAWN_ENV, nspawnArgv, REBOOT } from './nspawn.ts';

export interface BootOptions {
  readonly root: MachineRoot;
  /** Device nodes: disks and their partitions. */
  readonly devices: readonly string[];
  /** Name in /run/netns of the network namespace that it is to have; one that leads nowhere where left out. */
  readonly network?: string;
  readonly signal?: AbortSignal;
}

/** How a machine ended. */
export type End = 'off' | 'reboot' | 'killed';

/** A machine in which programs can be started from outside. */
export interface RunsPrograms {
  /** Runs a program in it. A non-zero exit is a result. */
  run(argv: readonly string[]): Promise<ExecResult>;
  /** Runs a program that must succeed, and gives what it prints. */
  output(argv: readonly string[]): Promise<string>;
}

/** A machine that runs: systemd in namespaces of its own, with a network that leads nowhere. The lease takes it down. */
export interface Machine extends RunsPrograms, AsyncDisposable {
  readonly root: MachineRoot;
  /** Its first process, as this machine sees it. */
  readonly leader: number;
  /** Directory of its control group. */
  readonly group: string;
  readonly ended: Promise<End>;
  /** Waits until all units have started or failed: the word of `systemctl is-system-running`, or how it ended before that. */
  settled(limitMs: number): Promise<string>;
  /** Gives it a device node while it runs, as udev does for a disk that comes late. */
  plug(device: string): Promise<void>;
  powerOff(): Promise<End>;
  /** Ends it as a loss of power does: nothing in it is told. */
  kill(): Promise<End>;
}

/**
 * Runs the rest as a child. nsenter(1) itself would stop with its child when systemd-shutdown(8) stops all processes, and never wait for its
 * end, for which the kernel lets the machine's first process wait.
 */
const WAIT_FOR = ['sh', '-c', '"$@"; exit $?', 'sh'];
const START_LIMIT_MS = 30_000;
const END_LIMIT_MS = 120_000;
let count = 0;

/** Boots a root. */
export async function boot(environment: Environment, options: BootOptions): Promise<Machine> {
  const { root, devices } = options;
  count += 1;
  const name = `${GROUP_PREFIX}${process.pid}-${count}`;
  const group = join(environment.groups, name);
  const { network = await openNetwork(name) } = options;
  const argv = nspawnArgv({ name, root: root.path, usr: root.usr, network: `/run/netns/${network}`, devices });
  const start = ['--mount', '--propagation', 'private', 'sh', '-c', ENTER_GROUP, 'sh', name, ...argv];
  const child = spawn('unshare', start, { env: { ...process.env, ...NSPAWN_ENV }, stdio: ['ignore', 'pipe', 'pipe'] });
  const console = keepLines(child);
  let isEnded = false;
  const isOver = (): boolean => isEnded;
  const ended = endOf(child).then(async (how) => {
    isEnded = true;
    await removeGroup(group);
    if (network === name) await execOnLinux('ip', ['netns', 'del', name]);
    return how;
  });
  const explain = async (what: string): Promise<Error> =>
    new Error(`${what}\n${[...console.slice(-20), ...(await lastLines(root.journal, 60))].join('\n')}`);
  const leader = await leaderOf(child, options.signal);
  if (leader === undefined) {
    child.kill('SIGKILL');
    await ended;
    throw await explain('the machine did not start');
  }
  const end = (): void => {
    if (!isEnded) process.kill(leader, 'SIGKILL');
  };
  options.signal?.addEventListener('abort', end, { once: true });
  const enter = ['-t', String(leader), '-m', '-u', '-i', '-n', '-p', '-C', '-r', '-w', '--no-fork', '--', ...WAIT_FOR];
  const run: Machine['run'] = async (argv) => await execOnLinux('nsenter', [...enter, ...argv], { timeoutMs: END_LIMIT_MS });
  const endWithin = async (act: () => Promise<unknown> | boolean): Promise<End> => {
    await act();
    const end = await within(ended, END_LIMIT_MS);
    if (end !== undefined) return end;
    process.kill(leader, 'SIGKILL');
    await ended;
    throw await explain(`the machine did not end within ${END_LIMIT_MS / 1000} s`);
  };
  return {
    root,
    leader,
    group,
    ended,
    run,
    output: async (argv) => {
      const result = await run(argv);
      if (result.exitCode === 0) return result.stdout;
      throw await explain(`${argv.join(' ')} ended with ${result.exitCode} in the machine: ${result.stdout}${result.stderr}`);
    },
    settled: async (limitMs) => {
      const word = await within(Promise.race([untilSettled(run, { ended, isOver }), ended]), limitMs);
      if (word !== undefined) return word;
      const jobs = await run(['systemctl', 'list-jobs', '--no-pager']);
      throw await explain(`the machine was not up within ${limitMs / 1000} s; it waits for:\n${jobs.stdout}`);
    },
    plug: async (device) => {
      const numbers = (await output(execOnLinux, 'stat', ['-c', '%Hr %Lr', device])).trim().split(' ');
      const make = '[ -b "$1" ] || mknod -m 0600 "$1" b "$2" "$3"';
      await output(execOnLinux, 'nsenter', [...enter, 'sh', '-c', make, 'sh', device, ...numbers]);
    },
    powerOff: () => endWithin(() => run(['systemctl', 'poweroff'])),
    kill: () => endWithin(() => process.kill(leader, 'SIGKILL')),
    [Symbol.asyncDispose]: async () => {
      options.signal?.removeEventListener('abort', end);
      end();
      await ended;
    },
  };
}

/** A network namespace in which there is loopback alone. */
async function openNetwork(name: string): Promise<string> {
  await output(execOnLinux, 'ip', ['netns', 'add', name]);
  await output(execOnLinux, 'ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  return name;
}

/** Asks until systemd answers, and then until it has nothing left to start. Source: systemctl(1), is-system-running. */
export async function untilSettled(
  run: Machine['run'],
  state: { readonly ended: Promise<End>; readonly isOver: () => boolean },
): Promise<string> {
  for (;;) {
    const { stdout } = await run(['systemctl', 'is-system-running', '--wait']);
    if (state.isOver()) return await state.ended;
    const word = stdout.trim();
    if (/^(running|degraded|maintenance)$/.test(word)) return word;
    await sleep(50);
  }
}

/** The only child of systemd-nspawn. Source: proc_pid_task_tid_children(5). */
async function leaderOf(child: ChildProcess, signal?: AbortSignal): Promise<number | undefined> {
  for (const start = performance.now(); performance.now() - start < START_LIMIT_MS; await sleep(20, undefined, signal && { signal })) {
    if (child.pid === undefined || child.exitCode !== null) return undefined;
    const program = await readFile(`/proc/${child.pid}/comm`, 'utf8').catch(() => '');
    const children = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').catch(() => '');
    const [leader] = children.trim().split(' ');
    if (program.trim() === 'systemd-nspawn' && leader && (await isInit(leader))) return Number(leader);
  }
  return undefined;
}

/** Whether a process has become the machine's first one; before that, its namespaces are not all there. */
async function isInit(pid: string): Promise<boolean> {
  const program = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
  return program.trim() === 'systemd';
}

function endOf(child: ChildProcess): Promise<End> {
  return new Promise((resolve) => {
    child.once('error', () => resolve('killed'));
    child.once('close', (code) => resolve(code === REBOOT ? 'reboot' : code === 0 ? 'off' : 'killed'));
  });
}

/** The last lines of the console, in an array that goes on to change. */
function keepLines(child: ChildProcess): readonly string[] {
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      lines.push(...chunk.toString().split(/\r?\n/).filter(Boolean));
      lines.splice(0, Math.max(0, lines.length - 200));
    });
  }
  return lines;
}

export async function within<T>(promise: Promise<T>, limitMs: number): Promise<T | undefined> {
  const done = new AbortController();
  const limit = sleep(limitMs, undefined, { signal: done.signal }).catch(() => undefined);
  try {
    return await Promise.race([promise, limit]);
  } finally {
    done.abort();
  }
}
