import pLimit from 'p-limit';
import type { ArchivePool } from '../extract/pool.ts';
import type { StorePieces } from '../model/bundle.ts';
import { checkPieceDigest, type StoreImage, wrongPieces } from './store-image.ts';

interface PiecesRequest {
  readonly image: StoreImage;
  readonly pieces: StorePieces;
  /** The file that has the bytes of the image. */
  readonly from: string;
  /** A file that is there, of the image's size; the pieces are written to it where it is given. */
  readonly to?: string;
  /** Up to four of its threads work at as many pieces. */
  readonly pool: Pick<ArchivePool, 'copyPiece'>;
  readonly signal: AbortSignal;
  /** Bytes of the image whose pieces are done. */
  readonly onProgress: (bytes: number) => void;
}

/** A piece of a store image. Sizes are bytes. */
interface Piece {
  readonly at: number;
  readonly sizeBytes: number;
  /** 64 lower-case hex digits. */
  readonly sha256: string;
}

/** Threads at most. Four hash 4 GB/s with SHA extensions, more than a disk gives; each takes some MiB of memory. */
const PARALLEL_PIECES = 4;

/**
 * Where the pieces of an image lie. Pure.
 * @throws PrestageError ERR_STORE_DIGEST where they are not exactly the image
 */
function piecesOf(image: Pick<StoreImage, 'path' | 'sizeBytes'>, pieces: StorePieces): readonly Piece[] {
  if (pieces.sha256.length !== Math.ceil(image.sizeBytes / pieces.sizeBytes)) throw wrongPieces(image, pieces);
  return pieces.sha256.map((sha256, index) => {
    const at = index * pieces.sizeBytes;
    return { at, sizeBytes: Math.min(pieces.sizeBytes, image.sizeBytes - at), sha256 };
  });
}

/**
 * Compares all pieces of an image with their hashes, in threads, and copies them where asked: the whole is that of the bundle then, as its
 * manifest seals the pieces. The first fault ends the others; once the promise has settled, nothing is written any more.
 * @throws PrestageError ERR_STORE_DIGEST, ERR_BUNDLE_FILE, ERR_SPACE_STORE; the signal's reason
 */
export async function passPieces({ image, pieces, from, to, pool, signal, onProgress }: PiecesRequest): Promise<void> {
  const plan = piecesOf(image, pieces);
  const givingUp = new AbortController();
  const ending = AbortSignal.any([signal, givingUp.signal]);
  let doneBytes = 0;
  const pass = async ({ at, sizeBytes, sha256 }: Piece): Promise<void> => {
    const job = { path: from, fileBytes: image.sizeBytes, at, sizeBytes, ...(to !== undefined && { to }) };
    const piece = await pool.copyPiece(job, { signal: ending });
    checkPieceDigest(image, { at, sha256 }, piece.sha256);
    doneBytes += sizeBytes;
    onProgress(doneBytes);
  };
  const limit = pLimit(PARALLEL_PIECES);
  const giveUp = (error: unknown): void => givingUp.abort(error);
  await Promise.all(plan.map((piece) => limit(async () => await pass(piece).catch(giveUp))));
  ending.throwIfAborted();
}
