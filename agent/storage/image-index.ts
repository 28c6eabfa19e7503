import type { Digest } from '../model/digest.ts';
import type { StoredImage } from './records.ts';

/** The image records by name and by digest. With 10,000 images, searching the whole list for each image would take too long. */
export interface ImageIndex {
  readonly byName: ReadonlyMap<string, readonly StoredImage[]>;
  readonly byDigest: ReadonlyMap<Digest, readonly StoredImage[]>;
}

const indexes = new WeakMap<readonly StoredImage[], ImageIndex>();

/** The index of a list of records. It is made once for each list. */
export function indexOf(images: readonly StoredImage[]): ImageIndex {
  const known = indexes.get(images);
  if (known !== undefined) return known;
  const made = { byName: groupBy(images, ({ names }) => names), byDigest: groupBy(images, ({ digests }) => digests) };
  indexes.set(images, made);
  return made;
}

function groupBy<K>(images: readonly StoredImage[], keysOf: (image: StoredImage) => readonly K[]): ReadonlyMap<K, readonly StoredImage[]> {
  const groups = new Map<K, StoredImage[]>();
  for (const image of images) {
    for (const key of new Set(keysOf(image))) {
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [image]);
      else group.push(image);
    }
  }
  return groups;
}
