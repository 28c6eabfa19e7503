import { createHash } from 'node:crypto';
import { deflatedBomb, NAME } from './archive-jobs.ts';
import { gzipMember, tarEntry } from './tar.ts';

/** The digest that the blob of a bomb is named by. */
export const BOMB_HEX = 'c'.repeat(64);

/** A blob of so many MiB of zeros, in about a thousandth of that. The trailer is wrong: nothing gets that far. */
export function blobBomb(zeroMiB: number, head: Buffer = Buffer.alloc(0)): Buffer {
  const header = tarEntry({ name: `${NAME}/${BOMB_HEX}`, size: head.length + zeroMiB * 2 ** 20 });
  return gzipMember(deflatedBomb(Buffer.concat([header, head]), zeroMiB), { crc: 0, lengthBytes: 0 });
}

/** The digest of what a bomb holds. */
export function zerosDigest(head: Buffer, mebibytes: number): string {
  const hash = createHash('sha256').update(head);
  const zeros = Buffer.alloc(2 ** 20);
  for (let rest = mebibytes; rest > 0; rest--) hash.update(zeros);
  return `sha256:${hash.digest('hex')}`;
}
