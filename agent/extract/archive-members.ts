import { type Extract, extract, type Header } from 'tar-stream';
import { messageOf, PrestageError } from '../model/errors.ts';
import { archiveFault } from './archive-faults.ts';
import { createEntryPolicy, type EntryHeader, type Member } from './entry-policy.ts';
import { openGzip } from './inflate.ts';
import type { Inflater } from './raw-inflate.ts';

/** A member with its content, which must be read before the next member is requested; otherwise it is skipped. */
export interface ArchiveMember {
  readonly member: Member;
  /** Passes all bytes to `take`, piece by piece; a piece may be kept. If `take` throws, the archive cannot be read further. */
  readonly read: (take: (bytes: Buffer) => void) => Promise<void>;
}

export interface MembersOptions {
  readonly path: string;
  /** Name of the one directory in the archive. */
  readonly name: string;
  readonly inflater: Inflater;
  /** Called repeatedly with the number of archive bytes read so far. */
  readonly onRead: (readBytes: number, archiveBytes: number) => void;
}

/**
 * Most bytes of an archive outside the content of its members: header, padding and long names of 4096 members take at most 10 MiB, the end of the
 * last record 1 MiB. The limit stops bombs of empty blocks or extended headers early.
 */
const PADDING_LIMIT_BYTES = 16 * 2 ** 20;

/**
 * Reads the members of an archive in their order, each checked by the entry policy. Only if the iteration reaches its end is the archive known to be
 * complete, with nothing after it.
 * Zero blocks between members are skipped, as `tar --ignore-zeros` does.
 * @throws PrestageError of the gzip file and of the policy, ERR_ARCHIVE_TAR, ERR_ARCHIVE_PADDING
 */
export async function* readMembers(options: MembersOptions): AsyncGenerator<ArchiveMember, void, undefined> {
  using file = openGzip(options.path, options.inflater);
  const judge = createEntryPolicy(options);
  const tar = extract();
  let announcedBytes = 0;
  let fault: unknown;
  const feed = async (): Promise<void> => {
    let inflatedBytes = 0;
    for await (const bytes of file.content()) {
      options.onRead(file.readBytes, file.sizeBytes);
      inflatedBytes += bytes.length;
      if (inflatedBytes - announcedBytes > PADDING_LIMIT_BYTES) {
        throw archiveFault('ERR_ARCHIVE_PADDING', options.path, `holds more than ${PADDING_LIMIT_BYTES} bytes outside its members`);
      }
      if (tar.destroying) return;
      if (!tar.write(bytes)) await drain(tar);
    }
    options.onRead(file.readBytes, file.sizeBytes);
    tar.end(null);
  };
  const feeding = feed().catch((error: unknown) => {
    fault = error;
    tar.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    for await (const entry of tar) {
      const member = judge(headerOf(entry.header));
      announcedBytes += member.sizeBytes;
      yield {
        member,
        read: async (take) => {
          for await (const bytes of whole(entry, (error) => fault ?? tarFault(options.path, error))) take(bytes);
        },
      };
      entry.resume();
    }
  } catch (error) {
    throw fault ?? tarFault(options.path, error);
  } finally {
    tar.destroy();
    await feeding;
  }
  if (fault !== undefined) throw fault;
}

/** All bytes of a member. Only for members whose size the policy limits. */
export async function readWhole(entry: ArchiveMember): Promise<Buffer> {
  const pieces: Buffer[] = [];
  await entry.read((bytes) => pieces.push(bytes));
  return Buffer.concat(pieces);
}

/** The bytes of an entry. Errors of the streams become faults of the archive. */
async function* whole(entry: AsyncIterable<unknown>, faultOf: (error: unknown) => unknown): AsyncGenerator<Buffer, void, undefined> {
  try {
    for await (const bytes of entry) if (Buffer.isBuffer(bytes)) yield bytes;
  } catch (error) {
    throw faultOf(error);
  }
}

function headerOf(header: Header): EntryHeader {
  const { name, type, size, pax } = header;
  return { name, type, sizeBytes: size, paxKeywords: typeof pax === 'object' && pax !== null ? Object.keys(pax) : [] };
}

/** Resolves when the stream accepts more data, or has closed. */
function drain(tar: Extract): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      tar.off('drain', settle);
      tar.off('close', settle);
      resolve();
    };
    tar.on('drain', settle);
    tar.on('close', settle);
  });
}

/** The errors of tar-stream differ only in their messages. `Invalid header` means a size that is negative or not a number. */
export function tarFault(path: string, error: unknown): Error {
  if (error instanceof PrestageError) return error;
  const message = messageOf(error);
  if (message === 'Invalid header') return archiveFault('ERR_ARCHIVE_SIZE', path, 'a member has an impossible size', error);
  return archiveFault('ERR_ARCHIVE_TAR', path, `its tar stream cannot be read: ${message}`, error);
}
