import { constants } from 'node:os';
import { execa } from 'execa';
import { PrestageError } from '../model/errors.ts';
import { systemRefusal } from '../model/system-error.ts';

export interface ExecOptions {
  /** Ends the program with SIGTERM when it fires. */
  readonly signal?: AbortSignal;
  /** Ends the program after so many milliseconds; none where left out. */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Bytes for the program's standard input; empty where left out. */
  readonly input?: string;
  /** Told what the program prints on its standard output while it runs, in pieces of any size. */
  readonly onStdout?: (text: string) => void;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit code; 128 + signal number where a signal ended it. */
  readonly exitCode: number;
}

/** Runs a program by argv, never through a shell. A non-zero exit is a result, not an error. */
export type Exec = (file: string, args: readonly string[], options?: ExecOptions) => Promise<ExecResult>;

/** Longest quotation of a program's messages, in characters. */
const QUOTE_LIMIT = 600;

/**
 * Runs programs of this machine, with an English locale so that messages can be quoted.
 * @throws PrestageError ERR_TOOL_MISSING where the program is not there, ERR_SYSTEM where the kernel does not start it
 */
export const execOnLinux: Exec = async (file, args, options = {}) => {
  const running = execa(file, [...args], {
    reject: false,
    env: { LC_ALL: 'C.UTF-8', ...options.env },
    input: options.input ?? '',
    maxBuffer: 64 * 1024 * 1024,
    ...(options.signal && { cancelSignal: options.signal }),
    ...(options.timeoutMs !== undefined && { timeout: options.timeoutMs }),
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  });
  const { onStdout } = options;
  if (onStdout !== undefined) running.stdout.on('data', (chunk: Buffer) => onStdout(chunk.toString('utf8')));
  const result = await running;
  const failure = startFailure(file, result.cause);
  if (failure !== undefined) throw failure;
  if (result.exitCode === undefined && result.signal === undefined && !result.isCanceled && !result.timedOut) {
    throw new PrestageError(
      'ERR_TOOL_MISSING',
      `${file} cannot be started: ${result.originalMessage ?? 'unknown reason'}`,
      `Install ${file} on this machine`,
      { cause: result.cause },
    );
  }
  return { stdout: String(result.stdout), stderr: String(result.stderr), exitCode: shellExitCode(result.exitCode, result.signal) };
};

/** The exit code as a shell gives it: 128 + signal number where a signal ended the program. Source: bash(1), EXIT STATUS. */
export function shellExitCode(code: number | null | undefined, signal: NodeJS.Signals | null | undefined): number {
  return code ?? 128 + (signal ? constants.signals[signal] : 0);
}

/** The error where the kernel refused to start a program; undefined where it was something else. */
export function startFailure(file: string, cause: unknown): PrestageError | undefined {
  const refusal = systemRefusal(cause);
  return refusal && new PrestageError('ERR_SYSTEM', `${file} cannot be started: ${refusal.code}`, refusal.remedy, { cause });
}

/**
 * Runs a program that must succeed and gives its standard output.
 * @throws PrestageError ERR_TOOL_FAILED with the end of its messages
 */
export async function output(exec: Exec, file: string, args: readonly string[], options?: ExecOptions): Promise<string> {
  const result = await exec(file, args, options);
  if (result.exitCode === 0) return result.stdout;
  throw new PrestageError(
    'ERR_TOOL_FAILED',
    `${file} ${args.join(' ')} ended with ${result.exitCode}: ${quote(result.stderr)}`,
    `Run the command by hand to see why`,
  );
}

/** The end of a program's messages on one line, capped. */
export function quote(text: string): string {
  const line = text.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return line.length <= QUOTE_LIMIT ? line : `…${line.slice(-QUOTE_LIMIT)}`;
}
