import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { extract } from 'tar-stream';
import { archiveFault } from '../extract/archive-faults.ts';
import { tarFault } from '../extract/archive-members.ts';
import type { EntryHeader } from '../extract/entry-policy.ts';
import { messageOf } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** A member of a tar file and the place of its content. */
export interface TarMember {
  readonly header: EntryHeader;
  /** Offset of its content in the file. */
  readonly at: number;
  /** Reads its whole content; only for members known to be small. */
  readonly read: () => Promise<Buffer>;
}

const BLOCK = 512;
/**
 * Bytes read at once to find headers: many among small members, few after a large one, whose content is read elsewhere.
 */
const NEAR_BYTES = 256 * 1024;
const FAR_BYTES = 4096;
/** tar-stream refuses extended headers above 4 MiB. An extended header and the header after it must be in the same piece. */
const PIECE_LIMIT_BYTES = 8 * 2 ** 20;

/**
 * Reads the headers of a tar file and skips the content, so that others can read it by its offset, in parallel. tar-stream decodes the headers.
 * The file is complete only if the iteration reaches its end: a block of zeros must follow the last member.
 * Symbolic links are not followed and only regular files are read, because the partition of the file is not trusted.
 * Source: POSIX.1-2017, pax, "ustar Interchange Format".
 * @throws PrestageError ERR_ARCHIVE_MISSING, _READ, _TAR, _TRUNCATED
 */
export async function* walkTar(path: string): AsyncGenerator<TarMember, void, undefined> {
  await using file = await openPlain(path);
  const { size } = await file.stat();
  if (size === 0) throw archiveFault('ERR_ARCHIVE_TRUNCATED', path, 'the file is empty');
  let [at, pieceBytes, isEnded] = [0, NEAR_BYTES, false];
  while (at < size) {
    const piece = await readAt(file, path, at, Math.min(pieceBytes, size - at));
    const { members, fault } = await membersIn(piece);
    if (members.length === 0) {
      const compression = at === 0 ? compressionOf(piece) : undefined;
      if (compression !== undefined)
        throw archiveFault('ERR_ARCHIVE_TAR', path, `it is compressed (${compression}), but an uncompressed tar file is expected`);
      if (piece.every((byte) => byte === 0)) {
        // The end of the piece may cut a block.
        isEnded ||= piece.length >= BLOCK;
        at += piece.length;
        continue;
      }
      // Without a fault, the piece ends behind an extended header, and the header that it extends is not in it.
      if (fault !== undefined && !fault.message.includes('Unexpected end')) throw tarFault(path, fault);
      if (at + piece.length >= size || pieceBytes >= PIECE_LIMIT_BYTES) throw cut(path, size);
      pieceBytes = Math.min(pieceBytes * 8, PIECE_LIMIT_BYTES);
      continue;
    }
    isEnded = false;
    const start = at;
    for (const { header, offset } of members) {
      const content = start + offset;
      // Like other readers, tar-stream assumes that a directory has no content, whatever its header says.
      at = content + (header.type === 'directory' ? 0 : Math.ceil(header.sizeBytes / BLOCK) * BLOCK);
      yield { header, at: content, read: async () => await readAt(file, path, content, header.sizeBytes) };
      if (at > size) throw cut(path, size);
    }
    pieceBytes = members.length > 1 ? NEAR_BYTES : FAR_BYTES;
  }
  if (!isEnded) throw cut(path, size);
}

interface Found {
  readonly header: EntryHeader;
  /** Offset of the content from the start of the piece. */
  readonly offset: number;
}

/** The members whose headers are complete in a piece that starts with a header. A fault after them proves nothing yet. */
async function membersIn(piece: Buffer): Promise<{ readonly members: readonly Found[]; readonly fault: Error | undefined }> {
  const members: Found[] = [];
  const tar = extract();
  const { promise, resolve } = Promise.withResolvers<Error | undefined>();
  tar.on('entry', ({ name, type, size, pax }, stream, next) => {
    const paxKeywords = typeof pax === 'object' && pax !== null ? Object.keys(pax) : [];
    members.push({ header: { name, type, sizeBytes: size, paxKeywords }, offset: stream.offset + BLOCK });
    stream.on('error', () => undefined);
    stream.resume();
    next();
  });
  let fault: Error | undefined;
  tar.on('error', (error: unknown) => {
    fault = error instanceof Error ? error : new Error(messageOf(error));
  });
  tar.on('close', () => resolve(fault));
  tar.end(piece);
  return { fault: await promise, members };
}

/** First bytes of compressed files. Sources: RFC 1952, RFC 8878, the file formats of bzip2 and xz. */
const COMPRESSIONS: readonly (readonly [string, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
];

function compressionOf(start: Buffer): string | undefined {
  return COMPRESSIONS.find(([, bytes]) => start.subarray(0, bytes.length).equals(Buffer.from(bytes)))?.[0];
}

async function openPlain(path: string): Promise<FileHandle> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((cause: NodeJS.ErrnoException) => {
    throw archiveFault(
      cause.code === 'ENOENT' ? 'ERR_ARCHIVE_MISSING' : 'ERR_ARCHIVE_READ',
      path,
      `cannot be opened: ${reasonOf(cause)}`,
      cause,
    );
  });
  if ((await file.stat()).isFile()) return file;
  await file.close();
  throw archiveFault('ERR_ARCHIVE_READ', path, 'is not a regular file');
}

async function readAt(file: FileHandle, path: string, at: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  for (let filled = 0; filled < bytes; ) {
    const { bytesRead } = await file.read(buffer, filled, bytes - filled, at + filled).catch((cause: NodeJS.ErrnoException) => {
      throw archiveFault('ERR_ARCHIVE_READ', path, `cannot be read at byte ${at + filled}: ${reasonOf(cause)}`, cause);
    });
    if (bytesRead === 0) throw cut(path, at + filled);
    filled += bytesRead;
  }
  return buffer;
}

function cut(path: string, sizeBytes: number): Error {
  return archiveFault('ERR_ARCHIVE_TRUNCATED', path, `the file ends after ${sizeBytes} bytes, before its tar stream does`);
}
