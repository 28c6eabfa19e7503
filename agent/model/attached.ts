import * as v from 'valibot';
import { type Digest, hexOf } from './digest.ts';
import { PrestageError } from './errors.ts';
import { listFaults, schemaFaults } from './faults.ts';
import { type Descriptor, MANIFEST_LIMIT_BYTES } from './manifest.ts';
import { digestSchema } from './schemas.ts';

/**
 * Attachments of an image in its repository, other than signatures: attestations and SBOMs under tags that name the manifest, and *referrers*,
 * manifests that name it as their subject, such as cosign's bundles. Source for this file: cosign, specs/ATTESTATION_SPEC.md and SBOM_SPEC.md; OCI
 * image-spec, manifest.md, "subject"; OCI distribution-spec, "Listing Referrers" and "Referrers Tag Schema".
 */
export type AttachedKind = TaggedKind | 'referrer';
export const TAGGED_KINDS = ['att', 'sbom'] as const;
type TaggedKind = (typeof TAGGED_KINDS)[number];

/** The manifest of an attachment. */
export interface AttachedManifest {
  /** The manifest that it names as its subject; attachments under a tag need not name one. */
  readonly subject: Digest | undefined;
  /** Its kind; if it does not state one, the type of its config, as registries do. */
  readonly artifactType: string;
  readonly annotations: Readonly<Record<string, string>>;
  /** Its config and its layers, each once. */
  readonly blobs: readonly Descriptor[];
  readonly config: Descriptor;
}

/** An entry of a list of referrers. Its size is in bytes. */
export interface Referrer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly artifactType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export const OCI_MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX_TYPE = 'application/vnd.oci.image.index.v1+json';
/** In practice no image has more, and each costs requests and files. */
const REFERRERS_LIMIT = 1000;
/** An SBOM of a large image has about 100 MB. */
export const ATTACHED_BLOB_LIMIT_BYTES = 1024 ** 3;

const TAG = /^sha256-([0-9a-f]{64})(?:\.(sig|att|sbom))?$/;
const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const annotations = v.nullish(v.record(v.string(), v.string()));
const blobSchema = v.object({ mediaType: v.string(), digest: digestSchema, size });
const manifestSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.literal(OCI_MANIFEST_TYPE, 'is not the type of an OCI image manifest'), OCI_MANIFEST_TYPE),
  artifactType: v.nullish(v.string()),
  config: blobSchema,
  layers: v.array(blobSchema),
  subject: v.nullish(v.object({ digest: digestSchema })),
  annotations,
});
const listSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.literal(OCI_INDEX_TYPE, 'is not the type of an OCI image index'), OCI_INDEX_TYPE),
  manifests: v.array(v.object({ mediaType: v.string(), digest: digestSchema, size, artifactType: v.nullish(v.string()), annotations })),
});

/** The tag of an attachment of a kind, in the repository of the image. */
export function attachedTag(subject: Digest, kind: TaggedKind): string {
  return `sha256-${hexOf(subject)}.${kind}`;
}

/** The tag under which clients look for the list of referrers if the registry does not provide one. */
export function referrersTag(subject: Digest): string {
  return `sha256-${hexOf(subject)}`;
}

/**
 * What a tag says about its content; `list` is a list of referrers, unless it is the image itself: tools that mirror images without a tag use
 * the image's own digest as a tag. Pure.
 */
export function besideImage(
  tag: string,
  digestBelow: Digest,
): { readonly subject: Digest; readonly kind: TaggedKind | 'sig' | 'list' } | undefined {
  const [, hex, kind] = TAG.exec(tag) ?? [];
  if (hex === undefined) return undefined;
  const subject: Digest = `sha256:${hex}`;
  if (kind === 'sig' || kind === 'att' || kind === 'sbom') return { subject, kind };
  return subject === digestBelow ? undefined : { subject, kind: 'list' };
}

/**
 * Reads the manifest of an attachment.
 * @param where its description, for messages
 * @param subject the manifest to which it must belong
 * @throws PrestageError ERR_ATTACHMENT with every fault: more than 4 MiB, not an image manifest, another subject, blobs above 1 GiB
 */
export function parseAttached(
  bytes: Uint8Array,
  where: string,
  subject: { readonly digest: Digest; readonly isNamed: boolean },
): AttachedManifest {
  const parsed = read(bytes, where, manifestSchema, 'manifests');
  const { artifactType, config, layers, annotations: notes } = parsed;
  const named = parsed.subject?.digest;
  const blobs = [...new Map([config, ...layers].map((blob) => [blob.digest, descriptor(blob)])).values()];
  const large = blobs.filter(({ sizeBytes }) => sizeBytes > ATTACHED_BLOB_LIMIT_BYTES);
  const isOther = named === undefined ? subject.isNamed : named !== subject.digest;
  const faults = [
    ...(isOther ? [`it belongs to ${named ?? 'no manifest'}, not to ${subject.digest}`] : []),
    ...large.map((blob) => `its blob ${blob.digest} has ${blob.sizeBytes} bytes, more than the limit of ${ATTACHED_BLOB_LIMIT_BYTES}`),
  ];
  if (faults.length > 0) throw unusable(where, faults);
  return { subject: named, artifactType: artifactType || config.mediaType, annotations: notes ?? {}, blobs, config: descriptor(config) };
}

/**
 * Reads a list of referrers, or one page of it.
 * @throws PrestageError ERR_ATTACHMENT with every fault: more than 4 MiB, not an index, more than 1,000 referrers, an index among them
 */
export function parseReferrers(bytes: Uint8Array, where: string): readonly Referrer[] {
  const { manifests } = read(bytes, where, listSchema, 'layers');
  checkNumber(manifests.length, where);
  const others = manifests.filter(({ mediaType }) => mediaType !== OCI_MANIFEST_TYPE);
  if (others.length > 0) {
    throw unusable(
      where,
      others.map(
        (one) => `it names ${one.digest} of type ${JSON.stringify(one.mediaType.slice(0, 160))}, but only image manifests are supported`,
      ),
    );
  }
  return manifests.map((one) => ({
    digest: one.digest,
    sizeBytes: one.size,
    artifactType: one.artifactType ?? '',
    annotations: one.annotations ?? {},
  }));
}

/** @throws PrestageError ERR_ATTACHMENT if there are more referrers than the limit */
export function checkNumber(referrers: number, where: string): void {
  if (referrers > REFERRERS_LIMIT) throw unusable(where, [`it names ${referrers} referrers, more than the limit of ${REFERRERS_LIMIT}`]);
}

/**
 * The text of a list of referrers, as clients read it under the tag of `referrersTag`; the same referrers give the same bytes, in any order.
 * Pure.
 */
export function formatReferrers(referrers: readonly Referrer[]): string {
  const manifests = referrers
    .toSorted((a, b) => (a.digest < b.digest ? -1 : 1))
    .map(({ digest: of, sizeBytes, artifactType, annotations: notes }) => ({
      mediaType: OCI_MANIFEST_TYPE,
      digest: of,
      size: sizeBytes,
      artifactType,
      ...(Object.keys(notes).length > 0 && {
        annotations: Object.fromEntries(Object.entries(notes).toSorted(([a], [b]) => (a < b ? -1 : 1))),
      }),
    }));
  return JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX_TYPE, manifests });
}

/** Whether a manifest names another one as its subject; false if the bytes cannot be read. Pure. */
export function hasSubject(bytes: Uint8Array): boolean {
  if (bytes.length > MANIFEST_LIMIT_BYTES) return false;
  const schema = v.pipe(v.string(), v.parseJson(), v.object({ subject: v.object({ digest: digestSchema }) }));
  return v.is(schema, Buffer.from(bytes).toString('utf8'));
}

type Schema<T> = v.GenericSchema<unknown, T>;

/** @param foreign key that only the other kind of manifest has: a document with both could be read as either (CVE-2021-41190) */
function read<T>(bytes: Uint8Array, where: string, schema: Schema<T>, foreign: 'manifests' | 'layers'): T {
  if (bytes.length > MANIFEST_LIMIT_BYTES) {
    throw unusable(where, [`it has ${bytes.length} bytes, more than the limit of ${MANIFEST_LIMIT_BYTES} for a manifest`]);
  }
  const json = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON')), Buffer.from(bytes).toString('utf8'));
  if (!json.success) throw unusable(where, schemaFaults(json.issues));
  if (typeof json.output === 'object' && json.output !== null && foreign in json.output) {
    throw unusable(where, [
      foreign === 'manifests' ? 'it is an index, not an image manifest' : 'it is an image manifest, not a list of referrers',
    ]);
  }
  const parsed = v.safeParse(schema, json.output);
  if (!parsed.success) throw unusable(where, schemaFaults(parsed.issues));
  return parsed.output;
}

function descriptor({ digest: of, size: sizeBytes, mediaType }: v.InferOutput<typeof blobSchema>): Descriptor {
  return { digest: of, sizeBytes, mediaType };
}

function unusable(where: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_ATTACHMENT',
    listFaults(
      `${where} cannot be used`,
      faults.map((fault) => `${where} cannot be used: ${fault}`),
    ),
    'Correct the attachment in the registry, or pull without --attachments',
  );
}
