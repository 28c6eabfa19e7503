import type { Digest } from '../../model/digest.ts';

/** Decides which image fetches which blob, so that images fetch a shared blob once, even if they are pulled at the same time. */
export interface Claims<Owner> {
  /**
   * True if the owner has to fetch the blob. While another owner fetches it, waits for that owner's end; false if the blob is there then,
   * or if the asking owner itself has ended in the meantime.
   */
  claim(digest: Digest, owner: Owner): Promise<boolean>;
  /** Reports that the blob is there: wakes the owners that wait for it. */
  fulfil(digest: Digest): void;
  /** Reports the end of an owner: blobs that it has not fetched are free for the next owner that asks. */
  release(owner: Owner): void;
}

interface Claim<Owner> {
  readonly owner: Owner;
  readonly settled: Promise<void>;
  readonly settle: () => void;
}

/**
 * There is no deadlock: an owner that has to fetch a blob waits for no other owner before it has done so.
 * @param isThere whether a blob is there already
 */
export function createClaims<Owner>(isThere: (digest: Digest) => boolean): Claims<Owner> {
  const claims = new Map<Digest, Claim<Owner>>();
  const ended = new Set<Owner>();
  const settle = (digest: Digest): void => {
    claims.get(digest)?.settle();
    claims.delete(digest);
  };
  return {
    claim: async (digest, owner) => {
      for (;;) {
        if (isThere(digest) || ended.has(owner)) return false;
        const current = claims.get(digest);
        if (current?.owner === owner) return true;
        if (current === undefined) {
          const { promise, resolve } = Promise.withResolvers<void>();
          claims.set(digest, { owner, settled: promise, settle: resolve });
          return true;
        }
        await current.settled;
      }
    },
    fulfil: settle,
    release: (owner) => {
      ended.add(owner);
      for (const [digest, claim] of [...claims]) if (claim.owner === owner) settle(digest);
    },
  };
}
