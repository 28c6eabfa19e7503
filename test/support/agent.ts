import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { execOnLinux } from '../../agent/host/exec.ts';
import { parseRunState, type RunState } from '../../agent/model/run-state.ts';
import { builtExecutable } from './executable.ts';

/** How a run of the built executable ended. */
export interface AgentResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A directory that stands for `/`, with a storage of its own, and the built executable that works in it. */
export interface Sandbox extends AsyncDisposable {
  readonly root: string;
  readonly graphroot: string;
  /** Runs the executable with `--root` of this sandbox; policy closed, so that exit codes are plain. */
  agent(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<AgentResult>;
  /** Starts it and gives the process. */
  start(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<ChildProcess>;
  /** What the last `run` with these arguments left as its state. */
  run(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<{ readonly exitCode: number; readonly state: RunState; readonly stderr: string }>;
  podman(...args: readonly string[]): Promise<AgentResult>;
}

/** Longest time that one command of a test may take. */
const LIMIT_MS = 180_000;

export async function makeSandbox(): Promise<Sandbox> {
  const executable = await builtExecutable();
  const root = await mkdtemp(join(tmpdir(), 'prestage-'));
  const graphroot = join(root, 'var/lib/containers/storage');
  const envOf = (env: Readonly<Record<string, string>>) => ({ PRESTAGE_ROOT: root, PRESTAGE_POLICY: 'closed', ...env });
  const agent: Sandbox['agent'] = async (args, env = {}) => {
    const result = await execa(executable, [...args], { reject: false, env: envOf(env), timeout: LIMIT_MS });
    return { exitCode: result.exitCode ?? 128, stdout: result.stdout, stderr: result.stderr };
  };
  return {
    root,
    graphroot,
    agent,
    start: async (args, env = {}) => spawn(executable, args, { env: { ...process.env, ...envOf(env) }, stdio: ['ignore', 'pipe', 'pipe'] }),
    run: async (args, env) => {
      const { exitCode, stdout, stderr } = await agent(['run', ...args, '--output', 'json'], env);
      const state = parseRunState(stdout);
      if (state === undefined) throw new Error(`run ended with ${exitCode} and no state: ${stdout}${stderr}`);
      return { exitCode, state, stderr };
    },
    podman: async (...args) => await execOnLinux('podman', ['--root', graphroot, '--runroot', join(root, 'run/containers/storage'), '--storage-driver', 'overlay', ...args]),
    [Symbol.asyncDispose]: async () => {
      await execOnLinux('umount', [join(graphroot, 'overlay')]);
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** The images of a state with what became of them, in order. */
export function statesOf(state: RunState): readonly (readonly [string, string])[] {
  return state.images.map((image) => [image.reference, image.state] as const);
}
