import * as v from 'valibot';
import { type Digest, isDigest } from './digest.ts';
import type { IndexManifest } from './manifest.ts';
import { digestSchema } from './schemas.ts';

/** A manifest that a manifest list names but that is missing: a mirror of some platforms leaves out the others. */
export interface AbsentInstance {
  readonly digest: Digest;
  /** `linux/arm64/v8`; empty if the list does not state it. */
  readonly platform: string;
}

/** Manifests that a registry did not have, by the digest of the list that names them; an empty array for a list that was complete. */
export type AbsentByList = ReadonlyMap<Digest, readonly AbsentInstance[]>;

/**
 * A file in an OCI image layout that `pull` has filled. It distinguishes manifests that the registry did not have from manifests that were lost
 * later. For a list that is not in the file, this is not known: it came from elsewhere.
 */
export const ABSENT_INSTANCES_FILE = 'absent-instances.json';
/** Enough for 50 000 lists with one instance each. A larger file is ignored. */
export const ABSENT_INSTANCES_LIMIT_BYTES = 16 * 1024 * 1024;
/** Most platforms that a text names. */
const SHOWN_PLATFORMS = 5;

const schema = v.pipe(
  v.string(),
  v.parseJson(),
  v.object({ lists: v.record(v.string(), v.array(v.object({ digest: digestSchema, platform: v.string() }))) }),
);

/** A platform in one word, as engines write it. */
export function platformText({
  os,
  architecture,
  variant,
}: Omit<IndexManifest['instances'][number], 'digest' | 'sizeBytes' | 'mediaType'>): string {
  return [os, architecture, variant].filter((word) => word !== '').join('/');
}

/** Reads the record of a layout. A text of another form counts as an empty one. */
export function parseAbsentInstances(text: string): AbsentByList {
  const parsed = v.safeParse(schema, text);
  const lists = parsed.success ? Object.entries(parsed.output.lists) : [];
  return new Map(lists.flatMap(([list, absent]) => (isDigest(list) ? [[list, absent] as const] : [])));
}

/** The text of a record; the same lists give the same bytes. */
export function formatAbsentInstances(lists: AbsentByList): string {
  const sorted = [...lists].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `${JSON.stringify({ lists: Object.fromEntries(sorted) }, undefined, 1)}\n`;
}

/**
 * The missing manifests of images, in one line; undefined if none is missing. Pure.
 * @param fate continues "the lists of 2 images name 3 manifests that"
 */
export function absentText(
  images: readonly { readonly reference: string; readonly absent?: readonly AbsentInstance[] }[],
  fate: string,
): string | undefined {
  const lacking = images.filter(({ absent = [] }) => absent.length > 0);
  const all = lacking.flatMap(({ reference, absent = [] }) => absent.map((one) => ({ reference, ...one })));
  const [first] = all;
  if (first === undefined) return undefined;
  const counts = [...Map.groupBy(all, ({ platform }) => platform)].map(
    ([platform, group]) => `${platform || 'no platform'} (${group.length})`,
  );
  const more = counts.length > SHOWN_PLATFORMS ? [`${counts.length - SHOWN_PLATFORMS} more platforms`] : [];
  const platforms = [...counts.slice(0, SHOWN_PLATFORMS), ...more].join(', ');
  const lists = lacking.length === 1 ? 'the list of 1 image names' : `the lists of ${lacking.length} images name`;
  const manifests = all.length === 1 ? '1 manifest' : `${all.length} manifests`;
  return `${lists} ${manifests} that ${fate}: ${platforms}; first: ${first.digest} of ${first.reference}`;
}
