import pLimit from 'p-limit';
import type { Digest } from '../../model/digest.ts';
import type { Reference } from '../../model/reference.ts';
import type { ResolvedImage } from './resolve.ts';

/** Looks for signatures or attachments of images, once for each manifest of each repository. */
export interface Finder<T> {
  /** @throws the error of a look-up, after all look-ups of the image have ended */
  find(image: ResolvedImage): Promise<readonly T[]>;
}

export interface LookUps<T> {
  /** Identifies a look-up: one that is running, or has succeeded, is not repeated. */
  readonly keyOf: (repository: Reference, subject: Digest) => string;
  /** Returns undefined if there is nothing. */
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
      // All have ended by now: a look-up that still ran after a failure would write into the folder.
      const failed = all.find(({ status }) => status === 'rejected');
      if (failed?.status === 'rejected') throw failed.reason;
      return all.flatMap((one) => (one.status === 'fulfilled' && one.value !== undefined ? [one.value] : []));
    },
  };
}
