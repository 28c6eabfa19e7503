import type { Terminal } from '../../agent/cli/context.ts';
import { runProgram } from '../../agent/cli/program.ts';
import type { AgentResult } from './agent.ts';

/** Runs a command line in this process, without a terminal. For commands that need no executable, no root and no programs. */
export async function runHere(args: readonly string[], env: Terminal['env'] = {}): Promise<AgentResult> {
  let [stdout, stderr] = ['', ''];
  const never = new AbortController().signal;
  const exitCode = await runProgram(args, {
    out: { write: (text) => (stdout += text) },
    err: { write: (text) => (stderr += text) },
    env,
    stop: never,
    kill: never,
  });
  return { exitCode, stdout, stderr };
}
