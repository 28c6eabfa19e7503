import pLimit from 'p-limit';
import type { Digest } from '../../model/digest.ts';
import type { Reference } from '../../model/reference.ts';
import type { ResolvedImage } from './resolve.ts';

/** Looks for something beside images, for each manifest of each repository once. */
export interface Finder<T> {
  /** @throws what a look-up throws, when all look-ups of the image have ended */
  find(image: ResolvedImage): Promise<readonly T[]>;
}

export interface LookUps<T> {
  /** What names a look-up: one that goes on, or has succeeded, is not made again. */
  readonly keyOf: (repository: Reference, subject: Digest) => string;
  /** Gives undefined for what is absent. */
  readonly lookUp: (repository: Reference, subject: Digest) => Promise<T | undefined>;
}

/** One look-up is two requests and some KB. More at a time than images, because they wait for the network. */
const PARALLEL_LOOKUPS = 8;

export function createFinder<T>({ keyOf, lookUp }: LookUps<T>): Finder<T> {
  const limit = pLimit(PARALLEL_LOOKUPS);
  const asked = new Map<string, Promise<T | undefined>>();
  const look = async (repository: Reference, subject: Digest): Promise<T | undefined> => {
    const key = keyOf(repository, subject);
    const found = asked.get(key) ?? limit(async () => await lookUp(repository, subject));
    asked.set(key, found);
    try {
      return await found;
    } catch (error) {
      // The next try asks again.
      asked.delete(key);
      throw error;
    }
  };
  return {
    find: async ({ listed, manifests }) => {
      const all = await Promise.allSettled(manifests.map(async ({ digest }) => await look(listed.reference, digest)));
      // All have ended by now: what one that fails left at work would still write.
      const failed = all.find(({ status }) => status === 'rejected');
      if (failed?.status === 'rejected') throw failed.reason;
      return all.flatMap((one) => (one.status === 'fulfilled' && one.value !== undefined ? [one.value] : []));
    },
  };
}
