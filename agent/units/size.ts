import { gzipSync } from 'node:zlib';
import { PrestageError } from '../model/errors.ts';

/** Largest gzip'd cpio archive with the whole ignition that the live ISO has room for, in bytes. Source: coreos-installer, live ISO embed area. */
export const EMBED_LIMIT_BYTES = 262_144;
/** Largest sum of names and values of all annotations of an object, in bytes. Source: Kubernetes, TotalAnnotationSizeLimitB. */
export const ANNOTATIONS_LIMIT_BYTES = 262_144;
/** From this share of a limit on, a warning is due: the installer adds content of its own to both. */
const WARNING_SHARE = 0.8;

/** Type and permissions of the member: a regular file, 0644. */
const MEMBER_MODE = 0o100644;
const TRAILER = 'TRAILER!!!';

/**
 * An ignition config as the live ISO carries it: one member `config.ign` in a newc cpio archive, compressed with gzip.
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
 * Holds a size against a limit.
 * @param what begins the sentence: "The override …"
 * @returns a warning from 80 % on, else undefined
 * @throws PrestageError ERR_IGNITION_SIZE above the limit
 */
export function checkSize(what: string, sizeBytes: number, limitBytes: number): string | undefined {
  if (sizeBytes > limitBytes) {
    throw new PrestageError(
      'ERR_IGNITION_SIZE',
      `${what} takes ${sizeBytes} bytes, and at most ${limitBytes} bytes fit`,
      'Move large files out of the override, onto the data partition or a server, and render it again',
    );
  }
  if (sizeBytes < limitBytes * WARNING_SHARE) return undefined;
  const percent = Math.floor((sizeBytes / limitBytes) * 100);
  return `${what} takes ${sizeBytes} bytes, ${percent} % of the ${limitBytes} bytes that it shares with what the installer adds`;
}

function cpioMember(name: string, content: Uint8Array, mode: number): Buffer {
  const inode = name === TRAILER ? 0 : 1;
  const links = 1;
  const nameBytes = Buffer.from(`${name}\0`, 'utf8');
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, '0')).join('')}`, 'latin1');
  return Buffer.concat([padded(Buffer.concat([header, nameBytes])), padded(content)]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
