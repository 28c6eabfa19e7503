import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { writeAtomic } from './atomic.ts';
import { type Exec, startFailure } from './exec.ts';

/** The holder of a lock, for messages of waiting processes. */
interface Holder {
  readonly pid: number;
  readonly command: string;
}

export interface LockRequest {
  readonly path: string;
  /** How long to wait for another holder; 0 fails at once. */
  readonly waitSeconds: number;
  /** The command of the holder, for other processes to read. */
  readonly command: string;
  /** Ends the wait when it fires. */
  readonly signal?: AbortSignal;
}

/** `flock --conflict-exit-code`: any number that neither flock(1) nor cat(1) uses. */
const CONFLICT = 75;

/** Shortest wait if the holder is gone: the child of a killed process notices the end of its pipe only a moment later. */
const LEFT_WAIT_SECONDS = 5;

/**
 * Takes an exclusive lock with flock(1). A child process holds it as long as this process lives: its standard input is our pipe, so even
 * SIGKILL releases the lock.
 * @throws PrestageError ERR_LOCKED, which names the holder; the signal's reason
 */
export async function takeLock(request: LockRequest): Promise<AsyncDisposable> {
  const { path, waitSeconds, signal } = request;
  signal?.throwIfAborted();
  await mkdir(dirname(path), { recursive: true });
  const first = await flock(path, waitSeconds, signal);
  const isAgain = first.end !== 'held' && waitSeconds < LEFT_WAIT_SECONDS && (await isLeft(path));
  const { child, end } = isAgain ? await flock(path, LEFT_WAIT_SECONDS, signal) : first;
  if (end !== 'held') {
    if (signal?.aborted === true) child.stdin.destroy();
    signal?.throwIfAborted();
    throw await refusalError(request, child, end);
  }
  const release = async (): Promise<void> => {
    const exited = once(child, 'exit');
    child.stdin.end();
    await exited;
  };
  const holder: Holder = { pid: process.pid, command: request.command };
  try {
    await writeAtomic(`${path}.holder`, `${JSON.stringify(holder)}\n`);
  } catch (error) {
    // Otherwise the child would keep this process alive, and the lock taken.
    await release();
    throw error;
  }
  return { [Symbol.asyncDispose]: release };
}

/** @returns `end`: `held`, `ended`, or the error if the kernel did not start it */
async function flock(path: string, waitSeconds: number, signal: AbortSignal | undefined) {
  const wait = waitSeconds > 0 ? ['--wait', String(waitSeconds)] : ['--nonblock'];
  const child = spawn(
    'flock',
    ['--exclusive', '--conflict-exit-code', String(CONFLICT), ...wait, path, 'sh', '-c', 'echo held && exec cat'],
    { stdio: ['pipe', 'pipe', 'inherit'], detached: true },
  );
  // If the kernel did not start it, there is an error and no standard output.
  const failure: Promise<unknown> = once(child, 'error').then(([error]) => error);
  const told = child.pid === undefined ? failure : once(child.stdout, 'data').then(() => 'held');
  const giveUp = (): void => void child.kill('SIGKILL');
  signal?.addEventListener('abort', giveUp, { once: true });
  const end = await Promise.race([told, once(child, 'exit').then(() => 'ended'), failure]);
  // Only the holder releases a lock that is held.
  signal?.removeEventListener('abort', giveUp);
  return { child, end };
}

/** Whether the last holder of the lock is gone. */
async function isLeft(path: string): Promise<boolean> {
  const holder = await readHolder(path);
  return holder !== undefined && !existsSync(`/proc/${holder.pid}`);
}

/**
 * The command line of a program that holds a shared lock as long as it lives, even if this process is killed first. The script is constant; the
 * program's argv is passed as arguments.
 */
export function holdingShared(
  path: string,
  file: string,
  args: readonly string[],
): { readonly file: string; readonly args: readonly string[] } {
  return { file: 'sh', args: ['-c', 'exec 9>>"$0" && flock --shared 9 && exec "$@"', path, file, ...args] };
}

/**
 * Waits until no program holds the shared lock: then all programs of a killed run have ended.
 * @throws PrestageError ERR_LOCKED if that takes longer than the limit
 */
export async function waitForShared(exec: Exec, path: string, limitSeconds: number): Promise<void> {
  const result = await exec('flock', ['--exclusive', '--wait', String(limitSeconds), path, 'true']);
  if (result.exitCode === 0) return;
  throw new PrestageError(
    'ERR_LOCKED',
    `${path} is still held by programs of an earlier run after ${limitSeconds} s`,
    `Find them with: fuser -v ${path}`,
  );
}

async function refusalError(request: LockRequest, child: ChildProcess, end: unknown): Promise<PrestageError> {
  const failure = startFailure('flock', end);
  if (failure !== undefined) return failure;
  if (child.exitCode !== CONFLICT) {
    return new PrestageError(
      'ERR_TOOL_MISSING',
      `${request.path} cannot be locked: flock failed with exit code ${child.exitCode}`,
      'Install util-linux, and check that the directory is writable',
    );
  }
  const holder = await readHolder(request.path);
  const who = holder === undefined ? 'another process' : `process ${holder.pid} (${holder.command})`;
  return new PrestageError(
    'ERR_LOCKED',
    `${request.path} is held by ${who}; waited ${request.waitSeconds} s`,
    'Wait until it ends, or give --lock-wait SECONDS; to watch it, run: prestage-agent status --watch',
  );
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    const parsed: unknown = JSON.parse(await readFile(`${path}.holder`, 'utf8'));
    if (typeof parsed !== 'object' || parsed === null || !('pid' in parsed) || !('command' in parsed)) return undefined;
    return { pid: Number(parsed.pid), command: String(parsed.command) };
  } catch {
    return undefined;
  }
}
