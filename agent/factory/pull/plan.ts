import type { Digest } from '../../model/digest.ts';
import type { Descriptor } from '../../model/manifest.ts';
import type { ResolvedImage } from './resolve.ts';

/** What is to be done for an image. Sizes are bytes. */
export interface PullStep {
  /** `keep` if all its blobs are there and complete. */
  readonly kind: 'fetch' | 'keep';
  readonly image: ResolvedImage;
  /** All its blobs. */
  readonly sizeBytes: number;
  /** Its missing blobs, without those that are fetched for an earlier image of the plan. */
  readonly fetchBytes: number;
}

export interface PullPlan {
  readonly steps: readonly PullStep[];
  /** Blobs that are fetched over the network, each once. */
  readonly fetchBytes: number;
  /** Blobs of the images that are there already. */
  readonly keptBytes: number;
}

/**
 * Decides what to fetch: the same facts give the same plan. Steps are in the order of the list.
 * @param present blobs that are there and complete
 */
export function planPull(images: readonly ResolvedImage[], present: ReadonlySet<Digest>): PullPlan {
  const planned = new Set<Digest>();
  const kept = new Map<Digest, Descriptor>();
  const steps = images.map((image): PullStep => {
    const missing = image.blobs.filter(({ digest }) => !present.has(digest));
    const own = missing.filter(({ digest }) => !planned.has(digest));
    for (const { digest } of missing) planned.add(digest);
    for (const blob of image.blobs) if (present.has(blob.digest)) kept.set(blob.digest, blob);
    return { kind: missing.length === 0 ? 'keep' : 'fetch', image, sizeBytes: sum(image.blobs), fetchBytes: sum(own) };
  });
  return { steps, fetchBytes: steps.reduce((total, step) => total + step.fetchBytes, 0), keptBytes: sum([...kept.values()]) };
}

/** The order to start in: the largest download first, so that no large image is left for the end. */
export function startOrder(steps: readonly PullStep[]): readonly PullStep[] {
  return steps.toSorted((a, b) => b.fetchBytes - a.fetchBytes);
}

function sum(blobs: readonly Descriptor[]): number {
  return blobs.reduce((total, blob) => total + blob.sizeBytes, 0);
}
