import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { PrestageError } from '../model/errors.ts';

export interface HashJob {
  /** Path of a plain file. */
  readonly path: string;
}

export interface HashedFile {
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  /** Bytes that were read and hashed: all there were. */
  readonly sizeBytes: number;
}

/**
 * Bytes read at a time. A cached file of 400 MB on a core with SHA extensions: 64 KiB 440, 256 KiB 365, 1 MiB 350, 4 MiB 355 ms. On the main
 * thread, by a stream of 64 KiB pieces, it takes 560 ms, and nothing else happens there meanwhile.
 */
const PIECE_BYTES = 1024 * 1024;

/**
 * Hashes every byte of a file. Blocks, so it is for threads. A symbolic link, a device, a fifo and a directory are refused.
 * @throws PrestageError ERR_BUNDLE_FILE where the file cannot be read
 */
export function hashFile(job: HashJob, onRead: (bytesRead: number) => void): HashedFile {
  const file = attempt(job, () => openSync(job.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
  try {
    if (!attempt(job, () => fstatSync(file)).isFile()) throw unreadable(job, 'it is no plain file');
    const hash = createHash('sha256');
    const piece = Buffer.allocUnsafe(PIECE_BYTES);
    for (let sizeBytes = 0; ; ) {
      const length = attempt(job, () => readSync(file, piece, 0, piece.length, null));
      if (length === 0) return { sha256: hash.digest('hex'), sizeBytes };
      hash.update(length === piece.length ? piece : piece.subarray(0, length));
      sizeBytes += length;
      onRead(sizeBytes);
    }
  } finally {
    closeSync(file);
  }
}

function attempt<T>(job: HashJob, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    throw unreadable(job, cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause), cause);
  }
}

function unreadable(job: HashJob, reason: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `${job.path} cannot be read: ${reason}`,
    'Write the bundle again; where it fails again, change the disk',
    cause === undefined ? undefined : { cause },
  );
}
