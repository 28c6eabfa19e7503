import { createHash, type Hash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { chmod, type FileHandle, mkdir, open, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import type { Act } from '../../host/acts.ts';
import { syncDirectory, writeAtomic } from '../../host/atomic.ts';
import { PrestageError } from '../../model/errors.ts';
import { reasonOf } from '../../model/system-error.ts';
import { HEAD_BYTES, type Validator } from './content.ts';
import { WORK_FOLDER } from './index-page.ts';

/** A partial download, kept apart from the other files until it is complete. */
export interface Part extends AsyncDisposable {
  /** Bytes that have arrived so far. */
  readonly sizeBytes: number;
  /** The state of the remote file that they belong to. */
  readonly validator: Validator;
  /** The first bytes, at most HEAD_BYTES. */
  readonly head: Buffer;
  append(piece: Buffer): Promise<void>;
  /**
   * Discards the bytes, and begins a new state.
   * @param isKept whether another process may continue it: that costs two writes to the disk
   */
  restart(validator: Validator, isKept: boolean): Promise<void>;
  /** Lower-case hex of the sha256 of the bytes so far. */
  sha256(): string;
  /** Makes it the file, durably; replaces an existing one. */
  finish(to: FinishedFile): Promise<void>;
}

export interface FinishedFile {
  readonly path: string;
  /** Permission bits. */
  readonly mode: number;
  /** Modification time; that of the download if left out. */
  readonly modifiedMs?: number | undefined;
}

const validatorSchema = v.object({ etag: v.exactOptional(v.string()), lastModified: v.exactOptional(v.string()) });

/** Bytes read at a time when an earlier download is hashed. */
const READ_BYTES = 1024 * 1024;

/** Opens the partial download of a file of `directory`, or begins one. The lease closes it; its bytes are kept for the next time. */
export async function openPart(directory: string, path: string, act: Act): Promise<Part> {
  const { data, state } = partPaths(directory, path);
  await mkdir(dirname(data), { recursive: true });
  const file = await open(data, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  let validator = await readValidator(state);
  // Bytes without a known state cannot be continued.
  if (validator === undefined) await file.truncate(0);
  let hash = createHash('sha256');
  let { sizeBytes, head } = await hashExisting(data, hash);
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    get validator() {
      return validator ?? {};
    },
    get head() {
      return head;
    },
    append: async (piece) => {
      await writeAll(file, piece, sizeBytes);
      hash.update(piece);
      if (head.length < HEAD_BYTES) head = Buffer.concat([head, piece.subarray(0, HEAD_BYTES - head.length)]);
      sizeBytes += piece.length;
    },
    restart: async (next, isKept) => {
      await act('begin-download', async () => {
        // In this order: bytes of the old state must never be recorded as those of the new one.
        await file.truncate(0);
        if (isKept) await writeAtomic(state, JSON.stringify(next));
        else await rm(state, { force: true });
      });
      validator = next;
      hash = createHash('sha256');
      sizeBytes = 0;
      head = Buffer.alloc(0);
    },
    sha256: () => hash.copy().digest('hex'),
    finish: async (to) =>
      await act('place-download', async () => {
        await file.sync();
        await chmod(data, to.mode);
        if (to.modifiedMs !== undefined) await utimes(data, to.modifiedMs / 1000, to.modifiedMs / 1000);
        await mkdir(dirname(to.path), { recursive: true });
        await rename(data, to.path);
        await syncDirectory(dirname(to.path));
        await rm(state, { force: true });
      }),
    [Symbol.asyncDispose]: async () => await file.close(),
  };
}

/** Bytes of a file that have arrived already; 0 if none. */
export async function partBytes(directory: string, path: string): Promise<number> {
  return await stat(partPaths(directory, path).data).then(
    (found) => found.size,
    () => 0,
  );
}

/** Discards the partial download of a file. */
export async function removePart(directory: string, path: string): Promise<void> {
  const { data, state } = partPaths(directory, path);
  await rm(data, { force: true });
  await rm(state, { force: true });
}

/** Named by a hash: paths have directories and can be long. */
function partPaths(directory: string, path: string): { readonly data: string; readonly state: string } {
  const name = createHash('sha256').update(path).digest('hex').slice(0, 32);
  const data = join(directory, WORK_FOLDER, `${name}.part`);
  return { data, state: `${data}.json` };
}

async function readValidator(path: string): Promise<Validator | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), validatorSchema), text);
  return parsed.success ? parsed.output : undefined;
}

async function hashExisting(path: string, hash: Hash): Promise<{ sizeBytes: number; head: Buffer }> {
  let sizeBytes = 0;
  let head: Buffer = Buffer.alloc(0);
  for await (const piece of createReadStream(path, { highWaterMark: READ_BYTES })) {
    if (!Buffer.isBuffer(piece)) continue;
    if (sizeBytes === 0) head = Buffer.from(piece.subarray(0, HEAD_BYTES));
    hash.update(piece);
    sizeBytes += piece.length;
  }
  return { sizeBytes, head };
}

async function writeAll(file: FileHandle, piece: Buffer, position: number): Promise<void> {
  for (let done = 0; done < piece.length; ) {
    done += (await file.write(piece, done, piece.length - done, position + done)).bytesWritten;
  }
}

/** The error for a file that cannot be written on this machine. */
export function writeFault(path: string, cause: unknown): PrestageError {
  if (cause instanceof PrestageError) return cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new PrestageError(
      'ERR_SPACE_FETCH',
      `${path} cannot be written: ${reasonOf(cause)}`,
      'Free space, then run the command again: fetched files are kept',
      {
        cause,
      },
    );
  }
  return new PrestageError(
    'ERR_FETCH_WRITE',
    `${path} cannot be written: ${reasonOf(cause)}`,
    'Check that the folder is writable, and what exists there under this name',
    {
      cause,
    },
  );
}
