import type { Digest } from '../model/digest.ts';
import { indexOf } from './image-index.ts';
import type { StorageContents } from './records.ts';

/** An image as it should be in storage. */
export interface ExpectedImage {
  /** Full references that must resolve. */
  readonly names: readonly string[];
  /** Any of them will do: of the manifest, or of the list that it was chosen from. */
  readonly digests: readonly Digest[];
}

/** Whether every name of the image resolves in storage to a record of its digest that shows no damage. */
export function isPresent(image: ExpectedImage, storage: Pick<StorageContents, 'images'>): boolean {
  const { byName } = indexOf(storage.images);
  return image.names.every((name) =>
    byName.get(name)?.some((stored) => stored.damage.length === 0 && stored.digests.some((digest) => image.digests.includes(digest))),
  );
}
