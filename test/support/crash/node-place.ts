import { builtExecutable } from '../executable.ts';
import { type NodeSandbox, openSandbox, type SandboxOptions } from '../sandbox.ts';
import type { CrashPlace } from './points.ts';

/** Longest time that one command may take: programs that a killed one has left are waited for. */
const LIMIT_MS = 120_000;

export interface NodeCommand {
  /** Arguments of the agent. */
  readonly args: readonly string[];
  /** Put in front of the agent's argv. */
  readonly under?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly end: () => Promise<unknown>;
}

/**
 * A place in a sandbox: what a killed command leaves mounted stays there between two commands, and no other test gets a copy of it with a mount
 * namespace of its own.
 */
export async function openNodePlace(
  prepare: (node: NodeSandbox) => Promise<NodeCommand>,
  options: SandboxOptions = {},
): Promise<CrashPlace> {
  const executable = await builtExecutable();
  const node = await openSandbox(options);
  try {
    const { args, under: own = [], env, end } = await prepare(node);
    return {
      run: async (more, under = []) => {
        const [file = executable, ...rest] = [...own, ...under, executable, ...args];
        return await node.exec(file, rest, { env: { ...env, ...more }, timeoutMs: LIMIT_MS });
      },
      end,
      [Symbol.asyncDispose]: async () => await node[Symbol.asyncDispose](),
    };
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
}

/** What is mounted in a node below a place, outer mounts first. */
export async function mountsBelow(node: NodeSandbox, place: string): Promise<readonly string[]> {
  const listed = await node.output('findmnt', ['--noheadings', '--list', '--output', 'TARGET']);
  return listed.split('\n').filter((target) => target === place || target.startsWith(`${place}/`));
}
