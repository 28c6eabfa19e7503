import type { BundleFault, VerifyMode } from '../bundle/verify-files.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { Host } from '../host/host.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';

/** Input shared by all checks of one verification. */
export interface VerifyContext {
  readonly host: Host;
  readonly mode: VerifyMode;
  /** GOARCH name; the image of a manifest list for it must be complete. */
  readonly architecture: string;
  readonly pool: ArchivePool;
  readonly parallel: number;
  /** Private directory for small files. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  /** Called with the number of bytes read, in mode `full`. */
  readonly onRead: (bytes: number) => void;
}

/** What a check found. */
export interface Checked {
  readonly faults: readonly BundleFault[];
  /** Observations that are not faults but worth a line. */
  readonly notices: readonly string[];
}

export const NOTHING_WRONG: Checked = { faults: [], notices: [] };

export function joinChecked(all: readonly Checked[]): Checked {
  return { faults: all.flatMap((one) => one.faults), notices: all.flatMap((one) => one.notices) };
}

/** A part of a bundle: `directory` is the top of the bundle, `path` is relative to it; an empty path means the top itself. */
export interface Part {
  readonly directory: string;
  readonly path: string;
}

export function within(part: Part, name: string): string {
  return part.path === '' ? name : `${part.path}/${name}`;
}

/** Turns a thrown error into the fault of a path. Throws unexpected errors, and interruptions, again. */
export function faultOf(path: string, error: unknown): BundleFault {
  const record: ErrorRecord = errorRecord(error);
  if (!(error instanceof PrestageError) || record.code === 'ERR_INTERRUPTED') throw error;
  return { path, ...record };
}
