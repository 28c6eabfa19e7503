import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { SIGNATURES_LIMIT } from '../../signatures/attachment.ts';
import type { BlobStore } from '../shared/blob-store.ts';

export interface NumberedSource {
  /** Returns the signature with a number, from 1 on; undefined if it is absent. */
  readonly get: (number: number) => Promise<Buffer | undefined>;
  /** Whether to skip a signature; skips none if left out. */
  readonly skips?: (bytes: Buffer) => boolean;
  /** The place of the signatures and what they sign, for messages. */
  readonly what: { readonly place: string; readonly subject: string };
  readonly remedy: string;
}

/**
 * Stores signatures in their order: they are numbered from 1, and the first absent number ends them.
 * @throws PrestageError ERR_SIGNATURE for more than SIGNATURES_LIMIT of them; errors of `get`
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
