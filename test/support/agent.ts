import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { execOnLinux, output, shellExitCode } from '../../agent/host/exec.ts';
import { parseRunState, type RunState } from '../../agent/model/run-state.ts';
import { builtExecutable } from './executable.ts';

/** How a run of the built executable ended. */
export interface AgentResult {
  /** 128 + signal number where a signal ended it, as a shell gives it. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunResult extends AgentResult {
  readonly state: RunState;
}

type Env = Readonly<Record<string, string>>;

/** A process of the executable that goes on. */
export interface StartedAgent {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Its end, with all that it wrote. */
  readonly ended: Promise<AgentResult>;
}

/** A directory that stands for `/`, with a storage of its own, and the built executable that works in it. */
export interface Sandbox extends AsyncDisposable {
  /** A directory for what the test itself needs; goes with the sandbox. */
  readonly work: string;
  readonly root: string;
  readonly graphroot: string;
  readonly runroot: string;
  readonly executable: string;
  /** Where the partition is mounted while a run reads it. */
  readonly mountPoint: string;
  /** Runs the executable in this root; policy closed, so that exit codes are plain. `under` is put in front: `['taskset', '-c', '0']`. */
  agent(args: readonly string[], env?: Env, under?: readonly string[]): Promise<AgentResult>;
  /** Starts it and goes on. */
  start(args: readonly string[], env?: Env): StartedAgent;
  /** `run --stage discovery` with these arguments, and the state that it answers with. */
  run(args: readonly string[], env?: Env, under?: readonly string[]): Promise<RunResult>;
  podman(...args: readonly string[]): Promise<AgentResult>;
  /** Puts a shell script of this name before the real program on the executable's PATH; `$REAL` in it is the real one. */
  wrap(program: string, script: string): Promise<void>;
  /** Lines that a wrapper wrote to `$LOG`. */
  log(): Promise<readonly string[]>;
  /** The state file that survives a reboot. */
  readonly stateFile: string;
}

/** Longest time that one command of a test may take. */
const LIMIT_MS = 180_000;

/** Makes an empty root. The lease takes away what is mounted below it, then the directory. */
export async function makeSandbox(): Promise<Sandbox> {
  const executable = await builtExecutable();
  const work = await mkdtemp(join(tmpdir(), 'prestage-'));
  const root = join(work, 'root');
  const bin = join(work, 'bin');
  const logFile = join(work, 'wrapped.log');
  const graphroot = join(root, 'var/lib/containers/storage');
  const runroot = join(root, 'run/containers/storage');
  await mkdir(root);
  await mkdir(bin);
  const envOf = (env: Env): Env => ({
    PATH: `${bin}:${process.env.PATH ?? ''}`,
    PRESTAGE_ROOT: root,
    PRESTAGE_POLICY: 'closed',
    ...env,
  });
  const agent: Sandbox['agent'] = async (args, env = {}, under = []) => {
    const [file = executable, ...rest] = [...under, executable, ...args];
    const result = await execa(file, rest, { reject: false, env: envOf(env), timeout: LIMIT_MS, stripFinalNewline: false });
    return { exitCode: shellExitCode(result.exitCode, result.signal), stdout: result.stdout, stderr: result.stderr };
  };
  return {
    work,
    root,
    graphroot,
    runroot,
    executable,
    mountPoint: join(root, 'run/prestage-agent/partition'),
    stateFile: join(root, 'var/lib/prestage-agent/state.json'),
    agent,
    start: (args, env = {}) => startAgent(executable, args, envOf(env)),
    run: async (args, env, under) => {
      const result = await agent(['run', '--stage', 'discovery', ...args, '--output', 'json'], env, under);
      const state = parseRunState(result.stdout);
      if (state === undefined) throw new Error(`run ended with ${result.exitCode} and no state: ${result.stdout}${result.stderr}`);
      return { ...result, state };
    },
    podman: async (...args) =>
      await execOnLinux('podman', ['--root', graphroot, '--runroot', runroot, '--storage-driver', 'overlay', ...args]),
    wrap: async (program, script) => {
      const real = (await output(execOnLinux, 'sh', ['-c', 'command -v -- "$1"', 'sh', program])).trim();
      await writeFile(join(bin, program), `#!/bin/sh\nREAL=${real}\nLOG=${logFile}\n${script}\n`, { mode: 0o755 });
    },
    log: async () => (await readFile(logFile, 'utf8').catch(() => '')).split('\n').filter((line) => line !== ''),
    [Symbol.asyncDispose]: async () => {
      for (const point of (await mountPointsBelow(work)).toReversed()) await execOnLinux('umount', [point]);
      if ((await mountPointsBelow(work)).length > 0) throw new Error(`${work} still holds mounts and is left there`);
      await rm(work, { recursive: true, force: true });
    },
  };
}

/** What is mounted at a directory or below it, outer mounts first. Source: proc_pid_mounts(5). */
export async function mountPointsBelow(directory: string): Promise<readonly string[]> {
  const lines = (await readFile('/proc/self/mounts', 'utf8')).split('\n');
  const points = lines.map((line) => (line.split(' ')[1] ?? '').replaceAll('\\040', ' '));
  return points.filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/** The images of a state with what became of them, in order. */
export function statesOf(state: RunState): readonly (readonly [string, string])[] {
  return state.images.map((image) => [image.reference, image.state] as const);
}

/** Asks again, ten times a second, until the answer is there; fails after a while. */
export async function waitFor<T>(what: string, ask: () => Promise<T | undefined>, limitMs = 30_000): Promise<T> {
  for (const start = performance.now(); ; await sleep(100)) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() - start > limitMs) throw new Error(`${what} did not come within ${limitMs / 1000} s`);
  }
}

function startAgent(executable: string, args: readonly string[], env: Env): StartedAgent {
  const child = spawn(executable, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  const written = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (written.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (written.stderr += chunk.toString()));
  // Not `close`: programs that a killed agent leaves behind hold its standard error.
  const ended = once(child, 'exit').then(async ([code, signal]): Promise<AgentResult> => {
    await sleep(50);
    return { exitCode: shellExitCode(code, signal), ...written };
  });
  if (child.pid === undefined) throw new Error(`${executable} could not be started`);
  return { process: child, pid: child.pid, ended };
}
