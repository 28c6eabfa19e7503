import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FIRST_PIECE, nextPiece, type PieceSize } from '../../../agent/extract/piece-size.ts';

const after = (outputs: readonly ((piece: PieceSize) => number)[]): PieceSize =>
  outputs.reduce((piece, output) => nextPiece(piece, output(piece)), FIRST_PIECE);
const random = (piece: PieceSize): number => piece.bytes;
const zeros = (piece: PieceSize): number => 1032 * piece.bytes;
const times = (count: number, output: (piece: PieceSize) => number): ((piece: PieceSize) => number)[] =>
  Array.from({ length: count }, () => output);

describe('the size of a piece', () => {
  it('grows to its limit on content that does not compress', () => {
    assert.deepEqual(after(times(6, random)), { bytes: 24_576, limitBytes: 24_576 });
  });

  it('stays where the output has the size aimed at', () => {
    assert.deepEqual(nextPiece({ bytes: 1024, limitBytes: 8192 }, 65_536), { bytes: 1024, limitBytes: 8192 });
  });

  it('is the least one on zeros', () => {
    assert.deepEqual(after(times(3, zeros)), { bytes: 64, limitBytes: 24_576 });
  });

  it('never grows large again in a stream that has burst', () => {
    assert.deepEqual(after([...times(10, random), zeros, ...times(10, random)]), { bytes: 512, limitBytes: 512 });
  });

  it('bounds the output of any stream to one burst', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1032, noNaN: true }), { maxLength: 200 }), (ratios) => {
        let piece = FIRST_PIECE;
        let bursts = 0;
        for (const ratio of ratios) {
          const outputBytes = Math.floor(piece.bytes * ratio);
          if (outputBytes > 2 ** 20) bursts += 1;
          piece = nextPiece(piece, outputBytes);
          assert.ok(piece.bytes >= 64 && piece.bytes <= piece.limitBytes);
        }
        assert.ok(bursts <= 1);
      }),
    );
  });
});
