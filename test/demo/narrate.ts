import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { shellExitCode } from '../../agent/host/exec.ts';

let act = 0;
let performing: ChildProcess | undefined;
let interruption: string | undefined;

/** Lets the demo end by an error when it is interrupted, so that it cleans up. */
export function endWellOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      interruption = signal;
      performing?.kill('SIGTERM');
    });
  }
}

/** One line on what comes next. */
export function tell(text: string): void {
  if (interruption !== undefined) throw new Error(`ended by ${interruption}`);
  act += 1;
  process.stdout.write(`\n${String(act).padStart(2)}. ${text}\n`);
}

/** Something seen, below the step that it belongs to. */
export function show(text: string): void {
  for (const line of text.trimEnd().split('\n')) process.stdout.write(`      ${line}\n`);
}

/** Shows a command and what it prints as it comes. */
async function perform(argv: readonly string[], shown = argv.join(' ')): Promise<{ readonly exitCode: number; readonly seconds: number }> {
  show(`$ ${shown}`);
  const started = performance.now();
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  performing = child;
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', show);
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(shellExitCode(code, signal)));
  });
  return { exitCode, seconds: (performance.now() - started) / 1000 };
}

/** As `perform`, for what must end with 0. */
export async function performWell(argv: readonly string[], shown?: string): Promise<number> {
  const { exitCode, seconds } = await perform(argv, shown);
  if (interruption !== undefined) throw new Error(`ended by ${interruption}`);
  if (exitCode !== 0) throw new Error(`${shown ?? argv.join(' ')} ended with ${exitCode}`);
  return seconds;
}
