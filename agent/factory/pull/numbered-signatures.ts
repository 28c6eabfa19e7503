import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { SIGNATURES_LIMIT } from '../../signatures/attachment.ts';
import type { BlobStore } from '../shared/blob-store.ts';

export interface NumberedSource {
  /** Gets the signature of a number, which counts from 1; undefined if it is absent. */
  readonly get: (number: number) => Promise<Buffer | undefined>;
  /** Signatures that are passed over; none if left out. */
  readonly skips?: (bytes: Buffer) => boolean;
  /** What has signatures of what, for a message. */
  readonly what: { readonly place: string; readonly subject: string };
  readonly remedy: string;
}

/**
 * Brings signatures that are counted from 1 until one is absent into the store, in their order.
 * @throws PrestageError ERR_SIGNATURE for more than SIGNATURES_LIMIT of them; what `get` throws
 */
export async function storeNumbered(store: BlobStore, { get, skips, what, remedy }: NumberedSource): Promise<readonly Digest[]> {
  const files: Digest[] = [];
  for (let number = 1; ; number++) {
    const bytes = await get(number);
    if (bytes === undefined) return files;
    if (number > SIGNATURES_LIMIT) {
      throw new PrestageError('ERR_SIGNATURE', `${what.place} has more than ${SIGNATURES_LIMIT} signatures of ${what.subject}`, remedy);
    }
    if (skips?.(bytes) === true) continue;
    const digest = digestOf(bytes);
    await store.writeSmall(digest, bytes);
    files.push(digest);
  }
}
