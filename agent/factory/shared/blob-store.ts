import { createHash, randomBytes } from 'node:crypto';
import { type FileHandle, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from '../../host/acts.ts';
import { syncDirectory, writeAtomic } from '../../host/atomic.ts';
import { type Digest, digestOf, hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { type Descriptor, MANIFEST_LIMIT_BYTES } from '../../model/manifest.ts';
import { reasonOf } from '../../model/system-error.ts';

/** A blob that is being received. It gets its name only if its bytes match the digest. */
export interface IncomingBlob {
  write(bytes: Buffer): Promise<void>;
  /**
   * Makes the blob durable under its name if its bytes match the digest, and removes them otherwise.
   * @returns the digest of the bytes
   */
  finish(digest: Digest): Promise<Digest>;
  drop(): Promise<void>;
}

/** The complete blobs of a directory, by digest. Only blobs that this process has hashed count. */
export interface BlobStore {
  has(digest: Digest): boolean;
  path(digest: Digest): string;
  /**
   * Hashes a blob that an earlier run may have left; true if it is complete. Results are not kept for the next run: size and time of a file do
   * not reveal damage on the disk, and hashing costs a fraction of fetching.
   */
  check(blob: Pick<Descriptor, 'digest' | 'sizeBytes'>): Promise<boolean>;
  /** The bytes of a small blob; undefined if it is missing or damaged. */
  readSmall(digest: Digest): Promise<Buffer | undefined>;
  /** Writes a small blob, such as a manifest, unless it is there. Its bytes must match the digest. */
  writeSmall(digest: Digest, bytes: Buffer): Promise<void>;
  receive(): Promise<IncomingBlob>;
  /** Makes the names durable. */
  sync(): Promise<void>;
}

export interface BlobStoreOptions {
  /** `blobs/sha256` of a layout; it may be missing as long as nothing is written. */
  readonly directory: string;
  /** Directory on the same file system for blobs that are being received. */
  readonly scratch: string;
  /** The digest of a file's bytes; rejects if the file cannot be read. */
  readonly hash: (path: string) => Promise<Digest>;
  readonly act: Act;
}

export function createBlobStore({ directory, scratch, hash, act }: BlobStoreOptions): BlobStore {
  const whole = new Set<Digest>();
  const path = (digest: Digest): string => join(directory, hexOf(digest));
  const readSmall = async (digest: Digest): Promise<Buffer | undefined> => {
    const found = await stat(path(digest)).catch(() => undefined);
    if (!found?.isFile() || found.size > MANIFEST_LIMIT_BYTES) return undefined;
    const bytes = await readFile(path(digest));
    return digestOf(bytes) === digest ? bytes : undefined;
  };
  return {
    has: (digest) => whole.has(digest),
    path,
    check: async ({ digest, sizeBytes }) => {
      if (whole.has(digest)) return true;
      const found = await stat(path(digest)).catch(() => undefined);
      if (!found?.isFile() || found.size !== sizeBytes || (await hash(path(digest)).catch(() => undefined)) !== digest) return false;
      whole.add(digest);
      return true;
    },
    readSmall,
    receive: async () => await receive({ scratch, path, act, accept: (digest) => whole.add(digest) }),
    writeSmall: async (digest, bytes) => {
      if ((await readSmall(digest)) !== undefined) return;
      await writing(async () => await act('place-manifest', async () => await writeAtomic(path(digest), bytes)));
    },
    sync: async () => await syncDirectory(directory),
  };
}

interface Target {
  readonly scratch: string;
  readonly act: Act;
  readonly path: (digest: Digest) => string;
  readonly accept: (digest: Digest) => void;
}

async function receive({ scratch, path, act, accept }: Target): Promise<IncomingBlob> {
  const temporary = join(scratch, `blob-${randomBytes(8).toString('hex')}`);
  const file = await writing(async (): Promise<FileHandle> => await open(temporary, 'wx', 0o644));
  const hash = createHash('sha256');
  const drop = async (): Promise<void> => {
    await file.close().catch(() => undefined);
    await rm(temporary, { force: true });
  };
  return {
    drop,
    write: async (bytes) => {
      hash.update(bytes);
      await writing(async () => await file.writeFile(bytes));
    },
    finish: async (digest) => {
      const actual: Digest = `sha256:${hash.digest('hex')}`;
      if (actual === digest) {
        await writing(
          async () =>
            await act('place-blob', async () => {
              await file.sync();
              await rename(temporary, path(digest));
            }),
        );
        accept(digest);
      }
      await drop();
      return actual;
    },
  };
}

/** Reports a full or broken target as such: the registry is not at fault, and a retry does not help. */
async function writing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw targetError(cause);
  }
}

/** The error of a target that cannot be written. */
export function targetError(cause: unknown): PrestageError {
  if (cause instanceof PrestageError) return cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  const path = cause instanceof Error && 'path' in cause ? `${String(cause.path)}: ` : '';
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new PrestageError(
      'ERR_SPACE_PULL',
      `${path}the target is full (${code})`,
      'Free space, then pull again: pulled blobs are kept',
      {
        cause,
      },
    );
  }
  return new PrestageError(
    'ERR_PULL_WRITE',
    `${path}the target cannot be written: ${reasonOf(cause)}`,
    'Check the disk with dmesg, then pull again',
    {
      cause,
    },
  );
}
