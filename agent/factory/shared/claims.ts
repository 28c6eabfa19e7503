import type { Digest } from '../../model/digest.ts';

/** Who brings which blob: two images that share one fetch it once, also when they are at work at the same time. */
export interface Claims<Owner> {
  /**
   * True where the owner is to bring the blob. Where another one is bringing it, waits for that one's end; false where the blob is there then,
   * or where the owner itself has ended meanwhile.
   */
  claim(digest: Digest, owner: Owner): Promise<boolean>;
  /** The blob has come: wakes those who wait for it. */
  fulfil(digest: Digest): void;
  /** The owner has ended: what it has not brought is free for the next one that asks. */
  release(owner: Owner): void;
}

interface Claim<Owner> {
  readonly owner: Owner;
  readonly settled: Promise<void>;
  readonly settle: () => void;
}

/**
 * Nobody waits in a circle: an owner that was told to bring a blob waits for no other before it does.
 * @param isThere whether a blob need not be brought any more
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
