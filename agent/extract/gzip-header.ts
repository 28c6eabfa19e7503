import { crc32 } from 'node:zlib';
import { archiveFault, quoteText } from './archive-faults.ts';

/** Bytes of the trailer: CRC-32 and length of the content, each 4 bytes, little endian. Source: RFC 1952, section 2.3. */
export const GZIP_TRAILER_BYTES = 8;

/** Longest header that is read: extra field (65,535 bytes at most), and a name and a comment of reasonable length. */
export const GZIP_HEADER_LIMIT_BYTES = 72 * 1024;

const FLAG = { headerCrc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;
const FIXED_BYTES = 10;

/**
 * Length in bytes of the header of a gzip member.
 * Source: RFC 1952, section 2.3. Time, extra flags and operating system do not affect the content and are not checked.
 * @param start the first bytes of the file: GZIP_HEADER_LIMIT_BYTES, or the whole file if it is shorter
 * @throws PrestageError ERR_ARCHIVE_FORMAT, ERR_ARCHIVE_TRUNCATED
 */
export function gzipHeaderBytes(start: Uint8Array, path: string): number {
  const [id1, id2, method, flags] = start;
  if (id1 === undefined) throw archiveFault('ERR_ARCHIVE_TRUNCATED', path, 'the file is empty');
  if (id1 !== 0x1f || (id2 !== undefined && id2 !== 0x8b)) {
    throw archiveFault(
      'ERR_ARCHIVE_FORMAT',
      path,
      `is not a gzip file: it starts with ${quoteText(Buffer.from(start.subarray(0, 24)).toString('latin1'))}`,
    );
  }
  if (method !== undefined && method !== 8)
    throw archiveFault('ERR_ARCHIVE_FORMAT', path, `its compression method is ${method}, but gzip allows only 8`);
  if (flags === undefined || start.length < FIXED_BYTES) throw headerCut(path);
  if ((flags & FLAG.reserved) !== 0) throw archiveFault('ERR_ARCHIVE_FORMAT', path, `its gzip header has reserved flags (${flags})`);
  const content = afterFields(start, flags, path);
  if ((flags & FLAG.headerCrc) === 0) return content;
  const stated = uint16(start, content, path);
  const actual = crc32(start.subarray(0, content)) & 0xffff;
  if (stated !== actual) throw archiveFault('ERR_ARCHIVE_DAMAGED', path, `its gzip header has CRC ${actual}, but says ${stated}`);
  return content + 2;
}

/** Offset after the optional fields, which come in this order. */
function afterFields(start: Uint8Array, flags: number, path: string): number {
  let offset = FIXED_BYTES;
  if ((flags & FLAG.extra) !== 0) offset += 2 + uint16(start, offset, path);
  for (const flag of [FLAG.name, FLAG.comment]) {
    if ((flags & flag) === 0) continue;
    const end = start.indexOf(0, offset);
    if (end < 0) throw headerCut(path);
    offset = end + 1;
  }
  if (offset > start.length) throw headerCut(path);
  return offset;
}

function uint16(bytes: Uint8Array, offset: number, path: string): number {
  const [low, high] = bytes.subarray(offset, offset + 2);
  if (low === undefined || high === undefined) throw headerCut(path);
  return low | (high << 8);
}

function headerCut(path: string): Error {
  return archiveFault('ERR_ARCHIVE_TRUNCATED', path, 'the file ends in the gzip header, or the header is too long');
}
