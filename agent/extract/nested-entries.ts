import { OCI_INDEX_TYPE } from '../model/attached.ts';
import type { Digest } from '../model/digest.ts';
import type { OciIndex, PlacedEntry } from '../model/oci-layout.ts';
import { hasRegistry, readReference } from '../model/reference.ts';

/** Greatest depth of nested indexes. Tools write one level; the rest is reserve. */
const DEPTH_LIMIT = 3;
/** Most indexes without a full name that are read, and most entries in all of them. No tool writes a layout with more. */
const INDEX_LIMIT = 1000;
const ENTRY_LIMIT = 100_000;
/** Media types of an index. Sources: OCI image-spec, media-types.md; distribution, "Image Manifest V 2, Schema 2". */
const INDEX_TYPES: ReadonlySet<string> = new Set([OCI_INDEX_TYPE, 'application/vnd.docker.distribution.manifest.list.v2+json']);

/**
 * Replaces each entry that leads to an index of named images by these images, because some tools put one index for all images into `index.json`. An
 * entry with a full name is an image itself, whatever names its platforms have. An index without any full name in it counts as an unnamed image.
 * @param read returns the index in a blob; undefined if it cannot be read
 */
export async function withNested(index: OciIndex, read: (digest: Digest) => Promise<OciIndex | undefined>): Promise<OciIndex> {
  const seen = new Set<Digest>();
  const expanded = new Set<Digest>();
  let entryCount = 0;
  const expand = async (entries: readonly PlacedEntry[], depth: number): Promise<OciIndex> => {
    const found: PlacedEntry[] = [];
    const skipped: OciIndex['skipped'][number][] = [];
    for (const entry of entries) {
      const nested = await nestedIn(entry, depth);
      if (nested === undefined) found.push(entry);
      else {
        found.push(...nested.entries);
        skipped.push(...nested.skipped);
      }
    }
    return { entries: found, skipped };
  };
  const nestedIn = async (entry: PlacedEntry, depth: number): Promise<OciIndex | undefined> => {
    if (expanded.has(entry.digest)) return { entries: [], skipped: [] };
    if (depth === DEPTH_LIMIT || !INDEX_TYPES.has(entry.mediaType) || hasFullName(entry) || seen.has(entry.digest)) return undefined;
    if (seen.size === INDEX_LIMIT) return undefined;
    seen.add(entry.digest);
    const inner = await read(entry.digest);
    entryCount += inner?.entries.length ?? 0;
    if (inner === undefined || entryCount > ENTRY_LIMIT) return undefined;
    const within = (place: string): string => `${entry.place}.${place}`;
    const placed = inner.entries.map((one) => ({ ...one, place: within(one.place) }));
    const { entries, skipped } = await expand(placed, depth + 1);
    if (!entries.some(hasFullName)) return undefined;
    expanded.add(entry.digest);
    return { entries, skipped: [...inner.skipped.map((one) => ({ ...one, place: within(one.place) })), ...skipped] };
  };
  const { entries, skipped } = await expand(index.entries, 0);
  return { entries: distinct(entries), skipped: [...index.skipped, ...skipped] };
}

function hasFullName({ reference }: PlacedEntry): boolean {
  return hasRegistry(reference) && typeof readReference(reference) !== 'string';
}

/** Removes duplicates: an image can be named both in `index.json` and below it. */
function distinct(entries: readonly PlacedEntry[]): readonly PlacedEntry[] {
  const byName = new Map<string, PlacedEntry>();
  for (const entry of entries) {
    const key = `${entry.reference} ${entry.digest}`;
    if (!byName.has(key)) byName.set(key, entry);
  }
  return [...byName.values()];
}
