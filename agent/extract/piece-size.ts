/** Bytes of input to inflate at a time: `bytes` next, and never more than `limitBytes`. */
export interface PieceSize {
  readonly bytes: number;
  readonly limitBytes: number;
}

/**
 * Largest input of one push. DEFLATE expands one byte to up to 1,032, and the addon holds all output of a push twice. So zeros after random bytes
 * cost 2 x 24.8 MB once. CPU time to unpack 740 MB of archives: 8 KiB 2.3 s, 16 KiB 2.1 s, 24 KiB 1.95 s, 64 KiB 1.9 s.
 */
const LIMIT_BYTES = 24 * 1024;
/** Input of the first push, and the limit for a stream that has once expanded to more than BURST_BYTES, to avoid further bursts. */
const CAREFUL_BYTES = 512;
const BURST_BYTES = 2 ** 20;
/** Output wanted from one push. Larger buffers are garbage collected later: without this, three threads on a bomb peaked at 390 MiB. */
const OUTPUT_TARGET_BYTES = 64 * 1024;
const LEAST_BYTES = 64;

export const FIRST_PIECE: PieceSize = { bytes: CAREFUL_BYTES, limitBytes: LIMIT_BYTES };

/** The size of the next piece, computed from the output of the last one: grows at most twofold, and shrinks at once after much output. */
export function nextPiece(last: PieceSize, outputBytes: number): PieceSize {
  const limitBytes = outputBytes > BURST_BYTES ? CAREFUL_BYTES : last.limitBytes;
  const wanted = Math.floor((last.bytes * OUTPUT_TARGET_BYTES) / Math.max(outputBytes, 1));
  return { bytes: Math.max(Math.min(wanted, 2 * last.bytes, limitBytes), LEAST_BYTES), limitBytes };
}
