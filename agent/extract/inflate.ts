import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import { archiveFault } from './archive-faults.ts';
import { GZIP_HEADER_LIMIT_BYTES, GZIP_TRAILER_BYTES, gzipHeaderBytes } from './gzip-header.ts';
import { FIRST_PIECE, nextPiece } from './piece-size.ts';
import type { Inflater } from './raw-inflate.ts';

/** A gzip file that is being read. `readBytes` is the position reached. */
export interface GzipFile extends Disposable {
  readonly sizeBytes: number;
  readonly readBytes: number;
  /**
   * The content, in buffers that the reader may keep. Iterate it only once. The file must be exactly one gzip member: the CRC-32 and the length in the
   * trailer are compared, and anything after it (a second member, padding) is refused.
   * Source: RFC 1952, section 2.2 and 2.3.
   * @throws PrestageError ERR_ARCHIVE_FORMAT, _TRUNCATED, _TRAILING, _DAMAGED, _READ
   */
  content(): AsyncGenerator<Buffer, void, undefined>;
}

/** Bytes read at a time. 128 KiB to 1 MiB were equally fast, warm and cold; 256 KiB is twice the readahead of the kernel. */
const READ_BYTES = 256 * 1024;

/**
 * Opens a gzip file for one reading, with blocking reads: for a worker thread.
 * Symbolic links are not followed and only regular files are read, because the partition of the file is not trusted.
 * @throws PrestageError ERR_ARCHIVE_MISSING, ERR_ARCHIVE_READ
 */
export function openGzip(path: string, inflater: Inflater): GzipFile {
  const descriptor = openFile(path);
  const sizeBytes = fstatSync(descriptor).size;
  let readBytes = 0;
  const read = (buffer: Buffer, position: number): Buffer => {
    const bytes = readFully(descriptor, buffer, position, path);
    readBytes = Math.max(readBytes, position + bytes.length);
    return bytes;
  };
  return {
    sizeBytes,
    get readBytes() {
      return readBytes;
    },
    content: () => inflateMember({ path, sizeBytes, read, inflater }),
    [Symbol.dispose]: () => closeSync(descriptor),
  };
}

interface Source {
  readonly path: string;
  readonly sizeBytes: number;
  /** Fills the buffer from a position of the file; returns less only at the end of the file. */
  readonly read: (buffer: Buffer, position: number) => Buffer;
  readonly inflater: Inflater;
}

async function* inflateMember(source: Source): AsyncGenerator<Buffer, void, undefined> {
  const { path, sizeBytes } = source;
  const headerBytes = gzipHeaderBytes(source.read(Buffer.alloc(GZIP_HEADER_LIMIT_BYTES), 0), path);
  const content = { crc: 0, lengthBytes: 0 };
  const trailerAt = sizeBytes - GZIP_TRAILER_BYTES;
  if (trailerAt <= headerBytes)
    throw archiveFault('ERR_ARCHIVE_TRUNCATED', path, `the file ends after ${sizeBytes} bytes, before its content does`);
  for await (const bytes of inflateRange(source, headerBytes, trailerAt)) {
    content.crc = crc32(bytes, content.crc);
    content.lengthBytes += bytes.length;
    yield bytes;
  }
  const trailer = source.read(Buffer.alloc(GZIP_TRAILER_BYTES), trailerAt);
  if (trailer.length < GZIP_TRAILER_BYTES) throw truncatedError(path, sizeBytes);
  const stated = { crc: trailer.readUInt32LE(0), lengthBytes: trailer.readUInt32LE(4) };
  if (stated.crc !== content.crc)
    throw archiveFault('ERR_ARCHIVE_DAMAGED', path, `its content has CRC-32 ${hex(content.crc)}, but its trailer says ${hex(stated.crc)}`);
  if (stated.lengthBytes !== content.lengthBytes % 2 ** 32) {
    throw archiveFault(
      'ERR_ARCHIVE_DAMAGED',
      path,
      `its content has ${content.lengthBytes} bytes, but its trailer says ${stated.lengthBytes} (modulo 4 GiB)`,
    );
  }
}

/** Inflates the bytes [from, to) of the file, which must be exactly one DEFLATE stream. */
async function* inflateRange(source: Source, from: number, to: number): AsyncGenerator<Buffer, void, undefined> {
  const inflate = source.inflater.start();
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  let size = FIRST_PIECE;
  for (let position = from; position < to; ) {
    const block = source.read(buffer.subarray(0, Math.min(READ_BYTES, to - position)), position);
    if (block.length === 0) throw truncatedError(source.path, position);
    for (let offset = 0; offset < block.length; ) {
      const piece = block.subarray(offset, offset + size.bytes);
      offset += piece.length;
      const pieceEnd = position + offset;
      const { output, end } = await inflatePiece(source.path, pieceEnd, () => inflate(piece, pieceEnd === to));
      size = nextPiece(
        size,
        output.reduce((sum, bytes) => sum + bytes.length, 0),
      );
      yield* output;
      if (end === 'early') throw archiveFault('ERR_ARCHIVE_TRAILING', source.path, 'the file continues after the end of its gzip stream');
      if (end === 'open' && pieceEnd === to) throw truncatedError(source.path, source.sizeBytes);
    }
    position += block.length;
  }
}

async function inflatePiece<T>(path: string, end: number, inflate: () => T | Promise<T>): Promise<T> {
  try {
    return await inflate();
  } catch (cause) {
    throw archiveFault('ERR_ARCHIVE_DAMAGED', path, `its gzip stream is damaged before byte ${end}`, cause);
  }
}

function truncatedError(path: string, sizeBytes: number): PrestageError {
  return archiveFault('ERR_ARCHIVE_TRUNCATED', path, `the file ends after ${sizeBytes} bytes, before its gzip stream does`);
}

function openFile(path: string): number {
  const descriptor = reading(path, () => openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK));
  if (fstatSync(descriptor).isFile()) return descriptor;
  closeSync(descriptor);
  throw archiveFault('ERR_ARCHIVE_READ', path, 'is not a regular file');
}

function readFully(descriptor: number, buffer: Buffer, position: number, path: string): Buffer {
  let filled = 0;
  while (filled < buffer.length) {
    const count = reading(path, () => readSync(descriptor, buffer, filled, buffer.length - filled, position + filled));
    if (count === 0) break;
    filled += count;
  }
  return buffer.subarray(0, filled);
}

function reading<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
    if (code === 'ENOENT') throw archiveFault('ERR_ARCHIVE_MISSING', path, 'the file does not exist', cause);
    if (code === 'ELOOP') throw archiveFault('ERR_ARCHIVE_READ', path, 'is a symbolic link, not a regular file', cause);
    throw new PrestageError(
      'ERR_ARCHIVE_READ',
      `${path}: cannot be read: ${reasonOf(cause)}`,
      'Check the disk with dmesg, then write the archive again at the factory',
      { cause },
    );
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
