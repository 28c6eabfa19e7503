import type { Digest } from '../../model/digest.ts';
import type { NamedImage } from './source-image.ts';

/** One image to copy into a store. */
export interface CopyStep {
  readonly named: NamedImage;
  /** Positions in the plan of the copies that must be done before. */
  readonly after: readonly number[];
}

/**
 * Which copies wait for which, so that every layer and every config is brought by the first image that has it, however many copies run at a
 * time: that makes the store a function of its images, and no layer is unpacked twice. Pure.
 *
 * A layer of a store is the unpacked layer on top of the ones below it (containers-storage names it by them), so these are what is claimed.
 */
export function planCopies(images: readonly NamedImage[]): readonly CopyStep[] {
  const claims = new Map<string, number>();
  return images.map((named, index) => {
    const needed = [...chainsOf(named.image.diffIds), named.image.config];
    const after = new Set(needed.flatMap((claim) => claims.get(claim) ?? []));
    for (const claim of needed) if (!claims.has(claim)) claims.set(claim, index);
    return { named, after: [...after].toSorted((a, b) => a - b) };
  });
}

/** Each layer with all those below it, as one text. */
function chainsOf(diffIds: readonly Digest[]): readonly string[] {
  return diffIds.map((_, index) => diffIds.slice(0, index + 1).join(' '));
}
