import type { Digest } from '../../model/digest.ts';
import type { NamedImage } from './source-image.ts';

/** One image to copy into a store. */
export interface CopyStep {
  readonly named: NamedImage;
  /** Positions in the plan of the copies that must be done first. */
  readonly after: readonly number[];
}

/**
 * Decides which copies wait for which, so that every layer and config comes from the first image that has it, regardless of how many copies
 * run at a time. So the store depends on its images alone, and no layer is unpacked twice. Pure.
 *
 * containers-storage names a layer by its content and all layers below it, so an image claims whole chains of layers.
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
