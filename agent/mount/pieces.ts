import type { WrongPiece } from '../extract/copy-pieces.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { StorePieces } from '../model/bundle.ts';
import { type StoreImage, wrongPiece, wrongPieces } from './store-image.ts';

interface PiecesRequest {
  readonly image: StoreImage;
  readonly pieces: StorePieces;
  /** The file that has the bytes of the image. */
  readonly from: string;
  /** An existing file of the image's size, to which the pieces are written; left out if nothing is copied. */
  readonly to?: string;
  /** Up to four of its threads are used. */
  readonly pool: Pick<ArchivePool, 'copyPieces'>;
  readonly signal: AbortSignal;
  /** Bytes of the image that have been read. */
  readonly onProgress: (bytes: number) => void;
}

/**
 * Most threads. Four hash 4 GB/s with SHA extensions, more than a disk gives; each takes some MiB of memory. More threads than cores do not help:
 * 840 MB on 2 cores took 704 ms with two threads and 732 ms with three (median of 7, on a busy machine).
 */
export const PIECE_THREADS = 4;

/**
 * Compares all pieces of an image with their hashes, in threads, and copies them if requested. If all match, the image is that of the bundle, because
 * its manifest seals the pieces. The first fault ends the other threads; once the promise has settled, nothing more is written.
 * @throws PrestageError ERR_STORE_DIGEST, ERR_BUNDLE_FILE, ERR_SPACE_STORE; the signal's reason
 */
export async function passPieces({ image, pieces, from, to, pool, signal, onProgress }: PiecesRequest): Promise<void> {
  const { sizeBytes: pieceBytes, sha256 } = pieces;
  if (sha256.length !== Math.ceil(image.sizeBytes / pieceBytes)) throw wrongPieces(image, pieces);
  const next = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  const job = { path: from, sizeBytes: image.sizeBytes, pieceBytes, sha256, next, ...(to !== undefined && { to }) };
  const readBytes = Array.from({ length: Math.min(PIECE_THREADS, sha256.length) }, () => 0);
  const ended = await Promise.allSettled(
    readBytes.map(async (_, thread) => {
      const onThread = (bytes: number): void => {
        readBytes[thread] = bytes;
        onProgress(readBytes.reduce((total, one) => total + one, 0));
      };
      return (await pool.copyPieces(job, { signal, onProgress: onThread })).wrong;
    }),
  );
  signal.throwIfAborted();
  const wrong = ended.flatMap((one): readonly WrongPiece[] => (one.status === 'fulfilled' && one.value !== undefined ? [one.value] : []));
  const [first] = wrong.toSorted((a, b) => a.index - b.index);
  if (first !== undefined) throw wrongPiece(image, pieces, first);
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
  onProgress(image.sizeBytes);
  signal.throwIfAborted();
}
