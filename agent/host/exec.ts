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
  /** Why it was ended, in words that follow its name; left out if it ended by itself. */
  readonly endedBy?: string;
}

/** Runs a program by argv, never through a shell. A non-zero exit is a result, not an error. */
export type Exec = (file: string, args: readonly string[], options?: ExecOptions) => Promise<ExecResult>;

/** What a program may print on one of its streams. */
const OUTPUT_LIMIT_MIB = 64;
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
    maxBuffer: OUTPUT_LIMIT_MIB * 2 ** 20,
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
  const endedBy = reasonOf(result, options.timeoutMs);
  const exitCode = shellExitCode(result.exitCode, result.signal);
  return { stdout: String(result.stdout), stderr: String(result.stderr), exitCode, ...(endedBy !== undefined && { endedBy }) };
};

interface Ending {
  readonly timedOut: boolean;
  readonly isCanceled: boolean;
  readonly isMaxBuffer: boolean;
  readonly signal?: NodeJS.Signals | undefined;
}

/** Why a program did not end by itself: a limit of time, a stop, too much output and a signal of somebody else all end it by a signal. */
function reasonOf({ timedOut, isCanceled, isMaxBuffer, signal }: Ending, timeoutMs = 0): string | undefined {
  if (timedOut) return `was ended after ${timeoutMs / 1000} s, its limit of time`;
  if (isCanceled) return 'was stopped';
  if (isMaxBuffer) return `was ended because it printed more than ${OUTPUT_LIMIT_MIB} MiB`;
  return signal === undefined ? undefined : `was ended by ${signal}`;
}

/** How a program ended, in words that follow its name. */
export function howEnded({ endedBy, exitCode }: Pick<ExecResult, 'endedBy' | 'exitCode'>): string {
  return endedBy ?? `ended with ${exitCode}`;
}

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
    `${file} ${args.join(' ')} ${howEnded(result)}: ${quote(result.stderr) || 'it said nothing'}`,
    `Run the command by hand to see why`,
  );
}

/** The end of a program's messages on one line, capped. */
export function quote(text: string): string {
  const line = text.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return line.length <= QUOTE_LIMIT ? line : `…${line.slice(-QUOTE_LIMIT)}`;
}
