import * as v from 'valibot';
import type { Digest } from './digest.ts';
import { PrestageError } from './errors.ts';
import { listFaults, schemaFaults } from './faults.ts';
import { digestSchema } from './schemas.ts';

/** Files at the top of an OCI image layout. Source: OCI image-spec, image-layout.md. */
export const OCI_INDEX_FILE = 'index.json';
export const OCI_MARKER_FILE = 'oci-layout';
/** The content of the file `oci-layout`. */
export const OCI_MARKER = '{"imageLayoutVersion":"1.0.0"}\n';
/** A larger index is refused. The limit allows 100 000 entries. */
export const OCI_INDEX_LIMIT_BYTES = 64 * 1024 * 1024;

/** An image of an OCI image layout. */
export interface OciEntry {
  /** The name in the layout: a full reference or only a tag, depending on the tool; empty if the entry has no name. */
  readonly reference: string;
  /** Of the manifest, or of the manifest list. */
  readonly digest: Digest;
  /** Of that manifest, in bytes. */
  readonly sizeBytes: number;
  /** Of that manifest; a type of OCI or Docker. */
  readonly mediaType: string;
}

const REF_NAME = 'org.opencontainers.image.ref.name';
/** containerd's and docker's exports put only the tag into the name above, and the full reference here. */
const CONTAINERD_NAME = 'io.containerd.image.name';
/** The characters that the specification allows in a name (annotations.md), and the `_` of references. */
const NAME = /^[A-Za-z0-9._:@/+-]{1,512}$/;
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';

const entrySchema = v.object({
  mediaType: v.pipe(v.string(), v.nonEmpty(), v.maxLength(255)),
  digest: digestSchema,
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  platform: v.fallback(v.optional(v.object({ os: v.string(), architecture: v.string() })), undefined),
  annotations: v.fallback(v.nullish(v.record(v.string(), v.unknown())), undefined),
});
const indexSchema = v.object({ schemaVersion: v.literal(2), manifests: v.array(v.unknown()) });

/** An entry of an index, and its place. */
export interface PlacedEntry extends OciEntry {
  /** `manifests.3`. */
  readonly place: string;
  /** Left out if the entry has none. */
  readonly platform?: { readonly os: string; readonly architecture: string };
}

export interface OciIndex {
  readonly entries: readonly PlacedEntry[];
  /** Entries that cannot be read. */
  readonly skipped: readonly { readonly place: string; readonly reason: string }[];
}

/**
 * Reads the index of an OCI image layout. A repeated entry is returned once; entries without a name are kept, and a name that is not valid
 * counts as no name.
 * Source: OCI image-spec, image-layout.md ("index.json file") and annotations.md.
 * @param where its path, for messages
 * @throws PrestageError ERR_LAYOUT if the text is not an index
 */
export function parseOciIndex(text: string, where: string): OciIndex {
  if (text.length > OCI_INDEX_LIMIT_BYTES) {
    throw unreadable(where, [`it has ${text.length} characters, more than ${OCI_INDEX_LIMIT_BYTES}`]);
  }
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), indexSchema), text);
  if (!parsed.success) {
    throw unreadable(where, schemaFaults(parsed.issues));
  }
  const entries = new Map<string, PlacedEntry>();
  const skipped: { place: string; reason: string }[] = [];
  for (const [index, manifest] of parsed.output.manifests.entries()) {
    const place = `manifests.${index}`;
    const read = v.safeParse(entrySchema, manifest);
    if (!read.success) {
      skipped.push({ place, reason: schemaFaults(read.issues).join(', ') });
      continue;
    }
    const { annotations, digest, size, mediaType, platform } = read.output;
    const reference = nameIn(annotations?.[CONTAINERD_NAME]) || nameIn(annotations?.[REF_NAME]);
    const key = `${reference} ${digest}`;
    if (!entries.has(key)) entries.set(key, { reference, digest, sizeBytes: size, mediaType, place, ...(platform && { platform }) });
  }
  return { entries: [...entries.values()], skipped };
}

function nameIn(annotation: unknown): string {
  return typeof annotation === 'string' && NAME.test(annotation) ? annotation : '';
}

/** The text of an index with these entries, in their order; the same entries give the same bytes. */
export function formatOciIndex(entries: readonly OciEntry[]): string {
  const manifests = entries.map(({ reference, digest, sizeBytes, mediaType }) => ({
    mediaType,
    digest,
    size: sizeBytes,
    ...(reference !== '' && { annotations: { [REF_NAME]: reference } }),
  }));
  return `${JSON.stringify({ schemaVersion: 2, mediaType: INDEX_TYPE, manifests }, undefined, 2)}\n`;
}

function unreadable(where: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_LAYOUT',
    listFaults(
      `${where} is not the index of an OCI image layout`,
      faults.map((fault) => `${where}: ${fault}`),
    ),
    'Pull the images again at the factory',
  );
}
