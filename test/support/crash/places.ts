import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { execOnLinux, output, shellExitCode } from '../../../agent/host/exec.ts';
import { mountPointsBelow } from '../agent.ts';
import { builtExecutable } from '../executable.ts';
import type { CommandEnd, CrashPlace } from './points.ts';

/** Longest time that one command may take: programs that a killed one has left are waited for. */
const LIMIT_MS = 120_000;

export interface FactoryPlace {
  /** A directory of this place alone. */
  readonly work: string;
  /** Arguments of the agent. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly end: () => Promise<unknown>;
}

/** A place on this machine for a command of the factory, with a directory that stands for `/`. */
export async function openFactoryPlace(prepare: (work: string) => Promise<Omit<FactoryPlace, 'work'>>): Promise<CrashPlace> {
  const executable = await builtExecutable();
  const work = await mkdtemp(join(tmpdir(), 'crash-'));
  const root = join(work, 'root');
  const dispose = async (): Promise<void> => {
    for (const point of (await mountPointsBelow(work)).toReversed()) await output(execOnLinux, 'umount', [point]);
    await rm(work, { recursive: true, force: true });
  };
  try {
    await mkdir(root);
    const { args, env: own = {}, end } = await prepare(work);
    return {
      run: async (env, under = []) => await runAgent([...under, executable, ...args], { PRESTAGE_ROOT: root, ...own, ...env }),
      end,
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function runAgent([file = '', ...args]: readonly string[], env: Readonly<Record<string, string>>): Promise<CommandEnd> {
  const options = { reject: false, env, timeout: LIMIT_MS, stdin: 'ignore' } as const;
  const { exitCode, signal, stdout, stderr } = await execa(file, args, options);
  return { exitCode: shellExitCode(exitCode, signal), stdout, stderr };
}

/** Path, kind and content of all below a directory: what a person finds there, hidden files and empty directories too. */
export async function contentOf(
  directory: string,
  isLeftOut: (path: string) => boolean = () => false,
): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const found = await Promise.all(
    entries.map(async (entry): Promise<readonly [string, string]> => {
      const path = join(entry.parentPath, entry.name);
      const name = path.slice(directory.length + 1);
      if (entry.isDirectory()) return [name, 'directory'];
      if (entry.isSymbolicLink()) return [name, `link to ${await readlink(path)}`];
      return [
        name,
        createHash('sha256')
          .update(await readFile(path))
          .digest('hex'),
      ];
    }),
  );
  return Object.fromEntries(found.filter(([name]) => !isLeftOut(name)).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
