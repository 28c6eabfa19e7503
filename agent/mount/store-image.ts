import { constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { join, relative } from 'node:path';
import type { WrongPiece } from '../extract/copy-pieces.ts';
import { isInnerPath, type StorePieces } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** A store image of a bundle. */
export interface StoreImage {
  /** Absolute, in the opened bundle. */
  readonly path: string;
  readonly sizeBytes: number;
  /** 64 lower-case hex digits. */
  readonly sha256: string;
  /** Hashes of its pieces, so that it can be hashed on several cores; undefined if its bundle has none. */
  readonly pieces?: StorePieces | undefined;
  /** File with the dm-verity superblock and hash tree; absolute, in the opened bundle. */
  readonly hashTree: string;
  readonly hashTreeSizeBytes: number;
  /** 64 lower-case hex digits. */
  readonly rootHash: string;
}

/** The path of a file relative to the top of its bundle. Refuses a path that leads through a link or out of the bundle. */
export async function innerPath(bundleDirectory: string, path: string): Promise<string> {
  const inner = relative(bundleDirectory, path);
  const [top, real] = await Promise.all([realpath(bundleDirectory), realpath(path)]).catch((cause: NodeJS.ErrnoException) => {
    throw unreadable(path, reasonOf(cause), cause);
  });
  if (isInnerPath(inner) && real === join(top, inner)) return inner;
  throw unreadable(path, `its path leads to ${real}, by a link or out of the bundle ${top}`);
}

/**
 * Opens an image and checks its size against the bundle.
 * @throws PrestageError ERR_BUNDLE_FILE if it cannot be read, ERR_STORE_DIGEST if it has another size
 */
export async function openImage(image: Pick<StoreImage, 'path' | 'sizeBytes'>): Promise<FileHandle> {
  const { path, sizeBytes } = image;
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw unreadable(path, reasonOf(cause), cause);
    },
  );
  const found = await handle.stat();
  if (found.isFile() && found.size === sizeBytes) return handle;
  await handle.close();
  if (!found.isFile()) throw unreadable(path, 'it is not a plain file');
  throw digestFault(path, `has ${found.size} bytes, but its bundle says ${sizeBytes}`);
}

/** @param what text that continues the path: `has …, but its bundle says …` */
export function digestFault(path: string, what: string): PrestageError {
  return new PrestageError(
    'ERR_STORE_DIGEST',
    `the store image ${path} ${what}`,
    'Write the bundle to the partition again; prestage-agent verify --full shows what else is damaged',
  );
}

/** Text that continues the name of an image: the sha256 that it has, and the one that it should have. */
export function otherSha256(got: string, wanted: string): string {
  return `has the sha256 ${got}, but its bundle says ${wanted}`;
}

/** @throws PrestageError ERR_STORE_DIGEST */
export function checkDigest(image: Pick<StoreImage, 'path' | 'sha256'>, sha256: string): void {
  if (sha256 !== image.sha256) throw digestFault(image.path, otherSha256(sha256, image.sha256));
}

/** @param piece the one that has other bytes, and what it has */
export function wrongPiece({ path }: Pick<StoreImage, 'path'>, pieces: StorePieces, piece: WrongPiece): PrestageError {
  const [at, wanted] = [piece.index * pieces.sizeBytes, pieces.sha256[piece.index]];
  return digestFault(path, `does not match its bundle: its piece at byte ${at} has the sha256 ${piece.sha256}, but should have ${wanted}`);
}

export function wrongPieces({ path, sizeBytes }: Pick<StoreImage, 'path' | 'sizeBytes'>, pieces: StorePieces): PrestageError {
  return digestFault(path, `has ${sizeBytes} bytes, but its bundle lists ${pieces.sha256.length} pieces of ${pieces.sizeBytes} bytes`);
}

export function unreadable(path: string, reason: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `the store image ${path} cannot be read: ${reason}`,
    'Check the disk that holds the bundle, then write the bundle again',
    { cause },
  );
}
