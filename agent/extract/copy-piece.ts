import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { PrestageError } from '../model/errors.ts';
import { attempt, openPlain, unreadable } from './hash-file.ts';

/** Hashes a piece of a file and, where asked, copies it. Sizes are bytes. */
export interface PieceJob {
  /** Path of a plain file. */
  readonly path: string;
  /** What the whole file must have. */
  readonly fileBytes: number;
  /** Where the piece starts. */
  readonly at: number;
  readonly sizeBytes: number;
  /** A file that is there already; the piece is written to the same place in it. Nothing is written where it is left out. */
  readonly to?: string;
}

export interface HashedPiece {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
}

/** Bytes read, hashed and written at a time: what was read is still in the core's own cache when it is hashed and written. */
const BUFFER_BYTES = 256 * 1024;

/** One for each thread, as it has one job at a time. */
let buffer: Buffer | undefined;

/**
 * Hashes a piece of a file while it copies it. Blocks, so it is for threads. Links are followed neither to the file nor to the target; nothing is synced.
 * @throws PrestageError ERR_BUNDLE_FILE where the file cannot be read or has another size, ERR_SPACE_STORE where the target has no room
 */
export function copyPiece(job: PieceJob): HashedPiece {
  buffer ??= Buffer.allocUnsafeSlow(BUFFER_BYTES);
  const source = openPlain(job);
  try {
    const { size } = attempt(job, () => fstatSync(source));
    if (size !== job.fileBytes) throw unreadable(job, `it has ${size} bytes now, and had ${job.fileBytes}`);
    const target = job.to === undefined ? undefined : openSync(job.to, constants.O_WRONLY | constants.O_NOFOLLOW);
    try {
      return { sha256: passOn(job, { source, target, buffer }) };
    } finally {
      if (target !== undefined) closeSync(target);
    }
  } finally {
    closeSync(source);
  }
}

interface Passing {
  readonly source: number;
  readonly target: number | undefined;
  readonly buffer: Buffer;
}

function passOn(job: PieceJob, { source, target, buffer }: Passing): string {
  const hash = createHash('sha256');
  const end = job.at + job.sizeBytes;
  for (let at = job.at; at < end; ) {
    const length = attempt(job, () => readSync(source, buffer, 0, Math.min(buffer.length, end - at), at));
    if (length === 0) throw unreadable(job, `it ends at ${at} bytes now, and had ${job.fileBytes}`);
    const bytes = length === buffer.length ? buffer : buffer.subarray(0, length);
    if (target !== undefined) writeAll(job.to ?? '', target, bytes, at);
    hash.update(bytes);
    at += length;
  }
  return hash.digest('hex');
}

function writeAll(to: string, target: number, bytes: Buffer, at: number): void {
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(target, bytes, done, bytes.length - done, at + done);
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? noRoomFor(to, error) : error;
  }
}

/** @param path the copy of a store image */
export function noRoomFor(path: string, cause: unknown): PrestageError {
  return new PrestageError(
    'ERR_SPACE_STORE',
    `the copy of the store image ${path} cannot be written: no space is left`,
    'Make room below /var/lib/prestage-agent, or give --placement partition',
    { cause },
  );
}
