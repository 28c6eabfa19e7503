import type { StorePieces } from '../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../agent/model/digest.ts';

/** The hashes of the pieces of some bytes. */
export function piecesOf(bytes: Buffer, sizeBytes: number): StorePieces {
  const count = Math.ceil(bytes.length / sizeBytes);
  const piece = (nth: number): Buffer => bytes.subarray(nth * sizeBytes, (nth + 1) * sizeBytes);
  return { sizeBytes, sha256: Array.from({ length: count }, (_, nth) => hexOf(digestOf(piece(nth)))) };
}
