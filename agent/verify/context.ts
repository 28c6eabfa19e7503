import type { BundleFault, VerifyMode } from '../bundle/verify-files.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { Host } from '../host/host.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';

/** What all checks of one verification share. */
export interface VerifyContext {
  readonly host: Host;
  readonly mode: VerifyMode;
  /** GOARCH name: which image of a list must be whole. */
  readonly architecture: string;
  readonly pool: ArchivePool;
  readonly parallel: number;
  /** Directory of our own for small files. */
  readonly scratch: string;
  readonly signal: AbortSignal;
  /** Bytes that have been read, of those that `mode` full reads. */
  readonly onRead: (bytes: number) => void;
}

/** What a check found. */
export interface Checked {
  readonly faults: readonly BundleFault[];
  /** What is no fault, and worth a line. */
  readonly notices: readonly string[];
}

export const NOTHING_WRONG: Checked = { faults: [], notices: [] };

export function joinChecked(all: readonly Checked[]): Checked {
  return { faults: all.flatMap((one) => one.faults), notices: all.flatMap((one) => one.notices) };
}

/** A part of a bundle: `directory` is the bundle's top, `path` what is meant, relative to it; the top itself where empty. */
export interface Part {
  readonly directory: string;
  readonly path: string;
}

export function within(part: Part, name: string): string {
  return part.path === '' ? name : `${part.path}/${name}`;
}

/** A thrown error as the fault of a path; what the agent cannot foresee is thrown on. */
export function faultOf(path: string, error: unknown): BundleFault {
  const record: ErrorRecord = errorRecord(error);
  if (!(error instanceof PrestageError) || record.code === 'ERR_INTERRUPTED') throw error;
  return { path, ...record };
}
