import type { Digest } from '../../model/digest.ts';
import type { Descriptor } from '../../model/manifest.ts';
import type { ResolvedImage } from './resolve.ts';

/** What is to be done for an image. Sizes are bytes. */
export interface PullStep {
  /** `keep` where all that it needs is there and whole. */
  readonly kind: 'fetch' | 'keep';
  readonly image: ResolvedImage;
  /** All its blobs. */
  readonly sizeBytes: number;
  /** Its blobs that are missing, without those that an image before it in the plan brings. */
  readonly fetchBytes: number;
}

export interface PullPlan {
  readonly steps: readonly PullStep[];
  /** What comes over the network, each blob once. */
  readonly fetchBytes: number;
  /** What the images need and is there. */
  readonly keptBytes: number;
}

/**
 * Decides what to fetch: the same facts give the same plan. Steps stand in the order of the list.
 * @param present blobs that are there and whole
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

/** The order to start in: what brings most first, so that no big image is left for the end alone. */
export function startOrder(steps: readonly PullStep[]): readonly PullStep[] {
  return steps.toSorted((a, b) => b.fetchBytes - a.fetchBytes);
}

function sum(blobs: readonly Descriptor[]): number {
  return blobs.reduce((total, blob) => total + blob.sizeBytes, 0);
}
