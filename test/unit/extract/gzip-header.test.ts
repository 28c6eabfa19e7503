import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32 } from 'node:zlib';
import { gzipHeaderBytes } from '../../../agent/extract/gzip-header.ts';
import { thrownBy } from '../../support/thrown.ts';

const FIXED = [0, 0, 0, 0, 0, 3];
const header = (flags: number, fields: readonly number[] = []): Buffer => Buffer.from([0x1f, 0x8b, 8, flags, ...FIXED, ...fields]);
const withCrc = (bytes: Buffer, wrong = 0): Buffer => {
  const crc = (crc32(bytes) & 0xffff) ^ wrong;
  return Buffer.concat([bytes, Buffer.from([crc & 0xff, crc >> 8])]);
};
const name = [...Buffer.from('name\0')];

describe('the gzip header', () => {
  const lengths: readonly [string, Buffer, number][] = [
    ['no optional field', header(0), 10],
    ['the text flag', header(1), 10],
    ['an extra field', header(4, [3, 0, 1, 2, 3]), 15],
    ['a name', header(8, name), 15],
    ['a comment', header(16, name), 15],
    ['all fields', withCrc(header(2 + 4 + 8 + 16, [1, 0, 9, ...name, ...name])), 25],
  ];
  for (const [title, bytes, length] of lengths) {
    it(`with ${title} has ${length} bytes`, () => {
      assert.equal(gzipHeaderBytes(Buffer.concat([bytes, Buffer.from('content')]), 'x.tgz'), length);
    });
  }

  const cut: readonly [string, Buffer][] = [
    ['after the first byte', header(0).subarray(0, 1)],
    ['after the magic', header(0).subarray(0, 2)],
    ['after the method', header(0).subarray(0, 3)],
    ['after the flags', header(0).subarray(0, 4)],
    ['in the length of the extra field', header(4, [3])],
    ['in the extra field', header(4, [3, 0, 1])],
    ['in the name', header(8, [65, 66])],
    ['in the CRC', header(2, [1])],
  ];
  for (const [title, bytes] of cut) {
    it(`that ends ${title} is refused as truncated`, () => {
      assert.deepEqual(
        thrownBy(() => gzipHeaderBytes(bytes, 'x.tgz')),
        {
          code: 'ERR_ARCHIVE_TRUNCATED',
          message: 'x.tgz: the file ends in the gzip header, or the header is too long',
          remedy: 'Write the archive again at the factory',
        },
      );
    });
  }

  it('with a wrong CRC of its own is refused', () => {
    const bytes = withCrc(header(2), 1);
    const stated = bytes.readUInt16LE(10);
    assert.deepEqual(
      thrownBy(() => gzipHeaderBytes(bytes, 'x.tgz')),
      {
        code: 'ERR_ARCHIVE_DAMAGED',
        message: `x.tgz: its gzip header has CRC ${stated ^ 1}, but says ${stated}`,
        remedy: 'Write the archive again at the factory',
      },
    );
  });
});
