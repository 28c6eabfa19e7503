import { gzipSync } from 'node:zlib';
import { PrestageError } from '../model/errors.ts';

/** Largest gzipped cpio archive with the whole ignition that fits into the live ISO, in bytes. Source: coreos-installer, live ISO embed area. */
export const EMBED_LIMIT_BYTES = 262_144;
/** Largest sum of names and values of all annotations of an object, in bytes. Source: Kubernetes, TotalAnnotationSizeLimitB. */
export const ANNOTATIONS_LIMIT_BYTES = 262_144;
/** Share of a limit above which a warning is given, because the installer adds its own content. */
const WARNING_SHARE = 0.8;

/** Type and permissions of the member: a regular file, 0644. */
const MEMBER_MODE = 0o100644;
const TRAILER = 'TRAILER!!!';

/**
 * An ignition config in the form of the live ISO: one member `config.ign` in a newc cpio archive, compressed with gzip.
 * Source: cpio(5), "New ASCII Format"; coreos-installer iso ignition embed.
 */
export function embedArchive(ignition: string): Uint8Array {
  const cpio = Buffer.concat([
    cpioMember('config.ign', Buffer.from(ignition, 'utf8'), MEMBER_MODE),
    cpioMember(TRAILER, Buffer.alloc(0), 0),
  ]);
  return gzipSync(cpio, { level: 9 });
}

/**
 * Compares a size with a limit.
 * @param what start of the message: "The override …"
 * @returns a warning from 80 % on, else undefined
 * @throws PrestageError ERR_IGNITION_SIZE above the limit
 */
export function checkSize(what: string, sizeBytes: number, limitBytes: number): string | undefined {
  if (sizeBytes > limitBytes) {
    throw new PrestageError(
      'ERR_IGNITION_SIZE',
      `${what} has ${sizeBytes} bytes, but at most ${limitBytes} fit`,
      'Move large files from the override to the data partition or a server, then render it again',
    );
  }
  if (sizeBytes < limitBytes * WARNING_SHARE) return undefined;
  const percent = Math.floor((sizeBytes / limitBytes) * 100);
  return `${what} has ${sizeBytes} bytes, ${percent} % of the limit of ${limitBytes}, which also includes what the installer adds`;
}

function cpioMember(name: string, content: Uint8Array, mode: number): Buffer {
  const inode = name === TRAILER ? 0 : 1;
  const links = 1;
  const nameBytes = Buffer.from(`${name}\0`, 'utf8');
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join('')}`, 'latin1');
  return Buffer.concat([pad(Buffer.concat([header, nameBytes])), pad(content)]);
}

function pad(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
