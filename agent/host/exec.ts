import { constants } from 'node:os';
import { execa } from 'execa';
import { PrestageError } from '../model/errors.ts';
import { reasonOf, systemRefusal } from '../model/system-error.ts';

export interface ExecOptions {
  /** Ends the program with SIGTERM when it fires. */
  readonly signal?: AbortSignal;
  /** Ends the program after this many milliseconds; no limit if left out. */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Bytes for the program's standard input; empty if left out. */
  readonly input?: string;
  /** Called with the program's standard output while it runs, in pieces of any size. */
  readonly onStdout?: (text: string) => void;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit code; 128 + signal number if a signal ended it. */
  readonly exitCode: number;
  /** Why it was ended, in words that follow its name; left out if it exited by itself. */
  readonly endedBy?: string;
}

/** Runs a program by argv, never through a shell. A non-zero exit code is a result, not an error. */
export type Exec = (file: string, args: readonly string[], options?: ExecOptions) => Promise<ExecResult>;

/** Most output of a program on one stream. */
const OUTPUT_LIMIT_MIB = 64;
/** Longest quotation of a program's messages, in characters. */
const QUOTE_LIMIT = 600;

/**
 * Runs programs of this machine, with an English locale so that messages can be quoted.
 * @throws PrestageError ERR_TOOL_MISSING if the program does not exist, ERR_SYSTEM if the kernel cannot start it
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
      `${file} cannot be started: ${notStarted(result.cause) ?? result.originalMessage ?? 'unknown reason'}`,
      `Install ${file} on this machine`,
      { cause: result.cause },
    );
  }
  const endedBy = whyEnded(result, options.timeoutMs);
  const exitCode = shellExitCode(result.exitCode, result.signal);
  return { stdout: String(result.stdout), stderr: String(result.stderr), exitCode, ...(endedBy !== undefined && { endedBy }) };
};

/** spawn(2) reports a missing program as ENOENT, and so does a missing interpreter of a script. */
function notStarted(cause: unknown): string | undefined {
  if (!(cause instanceof Error && 'code' in cause)) return undefined;
  return cause.code === 'ENOENT' ? 'it is not installed' : reasonOf(cause);
}

interface Ending {
  readonly timedOut: boolean;
  readonly isCanceled: boolean;
  readonly isMaxBuffer: boolean;
  readonly signal?: NodeJS.Signals | undefined;
}

/** Why a program did not exit by itself: a time limit, a stop, too much output, or a signal from another process. All of them end it by a signal. */
function whyEnded({ timedOut, isCanceled, isMaxBuffer, signal }: Ending, timeoutMs = 0): string | undefined {
  if (timedOut) return `timed out after ${timeoutMs / 1000} s`;
  if (isCanceled) return 'was stopped';
  if (isMaxBuffer) return `was stopped because it printed more than ${OUTPUT_LIMIT_MIB} MiB`;
  return signal === undefined ? undefined : `was killed by ${signal}`;
}

/** How a program ended, in words that follow its name. */
export function howEnded({ endedBy, exitCode }: Pick<ExecResult, 'endedBy' | 'exitCode'>): string {
  return endedBy ?? `failed with exit code ${exitCode}`;
}

/** The exit code as a shell reports it: 128 + signal number if a signal ended the program. Source: bash(1), EXIT STATUS. */
export function shellExitCode(code: number | null | undefined, signal: NodeJS.Signals | null | undefined): number {
  return code ?? 128 + (signal ? constants.signals[signal] : 0);
}

/** The error if the kernel refused to start a program; undefined for any other cause. */
export function startFailure(file: string, cause: unknown): PrestageError | undefined {
  const refusal = systemRefusal(cause);
  return refusal && new PrestageError('ERR_SYSTEM', `${file} cannot be started: ${reasonOf(cause)}`, refusal.remedy, { cause });
}

/**
 * Runs a program that must succeed, and returns its standard output.
 * @throws PrestageError ERR_TOOL_FAILED with the end of its messages
 */
export async function output(exec: Exec, file: string, args: readonly string[], options?: ExecOptions): Promise<string> {
  const result = await exec(file, args, options);
  if (result.exitCode === 0) return result.stdout;
  throw new PrestageError(
    'ERR_TOOL_FAILED',
    `${file} ${args.join(' ')} ${howEnded(result)}: ${quote(result.stderr) || 'it printed no message'}`,
    `Run the command by hand to see why`,
  );
}

/** The end of a program's messages on one line, at most QUOTE_LIMIT characters. */
export function quote(text: string): string {
  const line = text.trim().replaceAll(/\s*\n\s*/g, ' | ');
  return line.length <= QUOTE_LIMIT ? line : `…${line.slice(-QUOTE_LIMIT)}`;
}
