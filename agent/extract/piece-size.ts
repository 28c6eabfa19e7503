/** How much input is inflated at a time: `bytes` next, `limitBytes` at most. */
export interface PieceSize {
  readonly bytes: number;
  readonly limitBytes: number;
}

/**
 * Largest input of one push. DEFLATE gives up to 1,032 bytes for one, and the addon holds all output of a push twice, so zeros that follow
 * on random bytes cost 2 x 24.8 MB once. CPU time to unpack 740 MB of archives: 8 KiB 2.3 s, 16 KiB 2.1 s, 24 KiB 1.95 s, 64 KiB 1.9 s.
 */
const LIMIT_BYTES = 24 * 1024;
/** Input of the first push, and the limit in a stream that has burst once, so that it does not burst again and again. */
const CAREFUL_BYTES = 512;
const BURST_BYTES = 2 ** 20;
/** Output that a push should have. Larger buffers are collected later: three threads on a bomb peaked at 390 MiB without this. */
const OUTPUT_TARGET_BYTES = 64 * 1024;
const LEAST_BYTES = 64;

export const FIRST_PIECE: PieceSize = { bytes: CAREFUL_BYTES, limitBytes: LIMIT_BYTES };

/** The size of the next piece, by what the last one gave: at most twice as large, and small at once where it gave much. */
export function nextPiece(last: PieceSize, outputBytes: number): PieceSize {
  const limitBytes = outputBytes > BURST_BYTES ? CAREFUL_BYTES : last.limitBytes;
  const wanted = Math.floor((last.bytes * OUTPUT_TARGET_BYTES) / Math.max(outputBytes, 1));
  return { bytes: Math.max(Math.min(wanted, 2 * last.bytes, limitBytes), LEAST_BYTES), limitBytes };
}
