import { constants } from 'node:os';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { cached } from '../support/cache.ts';

const SOURCE = join(import.meta.dirname, 'failing-calls.c');

const { EIO, EMFILE, ENOMEM, ENOSPC, EROFS } = constants.errno;

/** Kinds of calls of one program, with the errors that they get by turns. */
export const callErrors = {
  open: [EMFILE, EIO, EROFS],
  read: [EIO],
  write: [ENOSPC, EIO],
  fsync: [EIO, ENOSPC],
  rename: [EIO, ENOSPC, EROFS],
  link: [ENOSPC, EROFS],
  mkdir: [ENOSPC, EROFS, EIO],
  remove: [EIO, EROFS],
  truncate: [ENOSPC],
  pipe: [EMFILE],
  fork: [ENOMEM],
  exec: [EIO, EMFILE],
} as const satisfies Readonly<Record<string, readonly number[]>>;

export type Call = keyof typeof callErrors;

/** The Nth call of a kind in the agent itself, or the Nth start of a program by it, that fails. N counts from 1. */
export type Fault =
  | { readonly kind: 'call'; readonly call: Call; readonly nth: number; readonly errno: number }
  | { readonly kind: 'program'; readonly program: string; readonly nth: number };

/** Name of an error number: `EIO`. */
export function errnoName(errno: number): string {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? String(errno);
}

export function faultText(fault: Fault): string {
  return fault.kind === 'call' ? `${fault.call} ${fault.nth} fails with ${errnoName(fault.errno)}` : `${fault.program} ${fault.nth} fails`;
}

/** The library that makes calls fail; compiled once. */
export async function failingCalls(): Promise<string> {
  const directory = await cached({ name: 'failing-calls', makers: [SOURCE] }, async (to) => {
    await output(execOnLinux, 'g++', [
      '-x',
      'c',
      '-shared',
      '-fPIC',
      '-O1',
      '-Wall',
      '-Werror',
      '-o',
      join(to, 'failing-calls.so'),
      SOURCE,
    ]);
  });
  return join(directory, 'failing-calls.so');
}

export interface CallsRequest {
  readonly library: string;
  readonly call: Call;
  /** 0 lets all succeed, and writes a line for each to the log. */
  readonly nth: number;
  readonly errno: number;
  /** Paths below which files are counted. */
  readonly below: readonly string[];
  readonly log: string;
}

/** The environment of the program whose calls are to fail. */
export function callsEnv({ library, call, nth, errno, below, log }: CallsRequest): Readonly<Record<string, string>> {
  return {
    LD_PRELOAD: library,
    FAIL_CALL: call,
    FAIL_NTH: String(nth),
    FAIL_ERRNO: String(errno),
    FAIL_BELOW: below.join(':'),
    FAIL_LOG: log,
  };
}
