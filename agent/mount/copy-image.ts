import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { noRoomFor } from '../extract/copy-pieces.ts';
import type { ArchivePool } from '../extract/pool.ts';
import { syncDirectory } from '../host/atomic.ts';
import { copyHashed } from '../host/hashed-copy.ts';
import { reasonOf } from '../model/system-error.ts';
import { passPieces } from './pieces.ts';
import { checkDigest, openImage, type StoreImage, unreadable } from './store-image.ts';

export interface CopyImageRequest {
  readonly image: StoreImage;
  /** The file to write; its directory is there. */
  readonly to: string;
  /** It must survive a power cut. */
  readonly isDurable: boolean;
  /** Copies in its threads if the pieces of the image are known. */
  readonly pool: ArchivePool;
  readonly signal: AbortSignal;
  /** Bytes of the image that have been read so far. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Copies a store image and hashes what it reads: the file gets its name only if the bytes match the bundle. If its pieces are known, they are copied
 * in parallel.
 * @throws PrestageError ERR_STORE_DIGEST, ERR_BUNDLE_FILE, ERR_SPACE_STORE; the signal's reason
 */
export async function copyImage({ image, to, isDurable, pool, signal, onProgress }: CopyImageRequest): Promise<void> {
  const { pieces } = image;
  await using source = await openImage(image);
  let readBytes = 0;
  await writeThenName(to, isDurable, async (target, partial) => {
    if (pieces !== undefined) {
      await target.truncate(image.sizeBytes);
      return await passPieces({ image, pieces, from: image.path, to: partial, pool, signal, onProgress });
    }
    const copied = await copyHashed({
      read: async (buffer) => await readSome(source, buffer, image.path),
      target,
      onBytes: (bytes) => {
        readBytes += bytes;
        onProgress(readBytes);
      },
      signal,
    });
    checkDigest(image, copied.sha256);
  });
}

/**
 * Copies a hash tree if its size is as in the bundle. Its bytes are checked later, against the root hash.
 * @throws PrestageError ERR_BUNDLE_FILE, ERR_STORE_DIGEST, ERR_SPACE_STORE; the signal's reason
 */
export async function copyHashTree({ image, to, isDurable, signal }: Omit<CopyImageRequest, 'pool' | 'onProgress'>): Promise<void> {
  const path = image.hashTree;
  await using source = await openImage({ path, sizeBytes: image.hashTreeSizeBytes });
  await writeThenName(to, isDurable, async (target) => {
    await copyHashed({ read: async (buffer) => await readSome(source, buffer, path), target, onBytes: () => undefined, signal });
  });
}

async function readSome(source: FileHandle, buffer: Buffer, path: string): Promise<number> {
  try {
    return (await source.read(buffer, 0, buffer.length)).bytesRead;
  } catch (error) {
    throw unreadable(path, reasonOf(error), error);
  }
}

async function writeThenName(to: string, isDurable: boolean, write: (target: FileHandle, partial: string) => Promise<void>): Promise<void> {
  const partial = `${to}.partial`;
  await rm(partial, { force: true });
  try {
    await using target = await open(partial, 'wx', 0o644);
    await write(target, partial);
    if (isDurable) await target.sync();
    await rename(partial, to);
  } catch (error) {
    await rm(partial, { force: true });
    throw error instanceof Error && 'code' in error && error.code === 'ENOSPC' ? noRoomFor(to, error) : error;
  }
  if (isDurable) await syncDirectory(dirname(to));
}
