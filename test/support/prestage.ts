import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { execOnLinux, output, shellExitCode } from '../../agent/host/exec.ts';
import { type AgentResult, mountPointsBelow } from './agent.ts';
import { builtExecutable } from './executable.ts';
import { type HandSealed, seal } from './sealed-bundle.ts';

/** The built executable, with a directory that stands for `/` and one for what the test needs. */
export interface FactoryBench extends AsyncDisposable {
  readonly work: string;
  readonly root: string;
  /** The program's argv without arguments. */
  readonly command: readonly [string];
  readonly env: Readonly<Record<string, string>>;
  prestage(...args: readonly string[]): Promise<AgentResult>;
  /** Puts a shell script before a real program on PATH; `$REAL` in it is the real one. An empty script takes it away. */
  wrap(program: string, script: string): Promise<void>;
  /** Unmounts what a killed process left, as a reboot does. */
  reboot(): Promise<void>;
}

const LIMIT_MS = 120_000;

export async function makeFactoryBench(): Promise<FactoryBench> {
  const work = await mkdtemp(join(tmpdir(), 'factory-'));
  const [root, bin] = [join(work, 'root'), join(work, 'bin')];
  await mkdir(root);
  await mkdir(bin);
  const command = [await builtExecutable()] as const;
  const env = { PATH: `${bin}:${process.env.PATH ?? ''}`, PRESTAGE_ROOT: root };
  const reboot = async (): Promise<void> => {
    for (const point of (await mountPointsBelow(work)).toReversed()) await output(execOnLinux, 'umount', [point]);
  };
  return {
    work,
    root,
    command,
    env,
    prestage: async (...args) => {
      const result = await execa(command[0], args, { reject: false, env, timeout: LIMIT_MS, stdin: 'ignore' });
      return { exitCode: shellExitCode(result.exitCode, result.signal), stdout: result.stdout, stderr: result.stderr };
    },
    wrap: async (program, script) => {
      const path = join(bin, program);
      await rm(path, { force: true });
      if (script === '') return;
      const real = (await output(execOnLinux, 'sh', ['-c', 'command -v -- "$1"', 'sh', program])).trim();
      await writeFile(path, `#!/bin/sh\nREAL=${real}\nWORK=${work}\n${script}\n`, { mode: 0o755 });
    },
    reboot,
    [Symbol.asyncDispose]: async () => {
      await reboot();
      await rm(work, { recursive: true, force: true });
    },
  };
}

/** Types a line on a terminal that the program believes in; gives what it printed there, and its exit code. */
export async function onTerminal(
  bench: FactoryBench,
  args: readonly string[],
  line: string,
): Promise<{ readonly screen: string; readonly exitCode: number }> {
  const quoted = [...bench.command, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['--quiet', '--return', '--command', quoted, '/dev/null'], {
    env: { ...process.env, ...bench.env, TERM: 'dumb' },
  });
  let screen = '';
  let isTyped = false;
  child.stdout.on('data', (chunk: Buffer) => {
    screen += chunk.toString();
    if (isTyped || !screen.includes('Type ')) return;
    isTyped = true;
    child.stdin.write(`${line}\n`);
  });
  const exitCode = await new Promise<number>((resolve) => child.once('exit', (code, signal) => resolve(shellExitCode(code, signal))));
  child.stdin.destroy();
  return { screen: screen.replaceAll('\r', ''), exitCode };
}

/** A bundle of any files, sealed. A file named `prestage-agent` is made executable. */
export async function sealFiles(directory: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<HandSealed> {
  for (const [path, content] of Object.entries(files)) {
    const file = join(directory, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, content);
    if (path === 'prestage-agent') await chmod(file, 0o755);
  }
  return await seal({ directory, stage: 'discovery', images: [], payloads: [{ kind: 'archives', path: 'archives' }] });
}

/** The loop devices that a file is attached to. */
export async function loopsOfFile(file: string): Promise<string> {
  return await output(execOnLinux, 'losetup', ['--associated', file]);
}

export async function lineCount(file: string): Promise<number> {
  return (await readFile(file, 'utf8').catch(() => '')).split('\n').length - 1;
}
