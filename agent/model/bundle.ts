import * as v from 'valibot';
import { type Digest, hexOf } from './digest.ts';
import { PrestageError } from './errors.ts';
import { listFaults, schemaFaults } from './faults.ts';
import { digestSchema } from './schemas.ts';
import { STAGES, type Stage } from './stage.ts';

/**
 * The manifest that seals a bundle, `prestage.json` at its top. docs/bundle.schema.json describes the format, docs/bundle-format.md explains
 * it. Sizes are bytes; paths are relative to the bundle's top, with `/`.
 */
export const BUNDLE_FILE = 'prestage.json';
/** At the top of a bundle while it is being written: a bundle with this file is incomplete. */
export const PARTIAL_FILE = 'prestage.json.partial';
export const BUNDLE_VERSION = 'prestage-agent/v1';
/** A larger manifest is refused. The limit allows 100 000 files with long paths. */
export const BUNDLE_LIMIT_BYTES = 64 * 1024 * 1024;

const SHA256 = /^[0-9a-f]{64}$/;
const sha256 = v.pipe(v.string(), v.regex(SHA256, 'is not 64 lower-case hex digits'));
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const path = v.pipe(v.string(), v.check(isInnerPath, 'is not a relative path inside the bundle'));

/** A signature of an image. Its files are in the folder `signatures` of the bundle, named by their digests. */
const signatureSchema = v.variant('kind', [
  /** `manifest` has the tag `sha256-HEX.sig` in the repository of the image; its layers are the signatures. */
  v.object({ kind: v.literal('sigstore'), subject: digestSchema, manifest: digestSchema }),
  /** `file` is an OpenPGP message, as in a lookaside. */
  v.object({ kind: v.literal('gpg'), subject: digestSchema, file: digestSchema }),
]);

/** Another attachment of an image. Only the payloads `oci` and `registry` contain it, beside the image. */
const attachmentSchema = v.variant('kind', [
  /** Attestations by cosign; `manifest` has the tag `sha256-HEX.att`. */
  v.object({ kind: v.literal('att'), subject: digestSchema, manifest: digestSchema }),
  /** An SBOM by cosign, under the tag `sha256-HEX.sbom`. */
  v.object({ kind: v.literal('sbom'), subject: digestSchema, manifest: digestSchema }),
  /** A manifest that names `subject` as its subject; the index under the tag `sha256-HEX` names it. */
  v.object({ kind: v.literal('referrer'), subject: digestSchema, manifest: digestSchema, artifactType: v.string() }),
]);

/** The signatures of a release, which the cluster-version operator checks before an upgrade; `files` are OpenPGP messages. */
const releaseSignatureSchema = v.object({
  release: digestSchema,
  files: v.pipe(v.array(digestSchema), v.minLength(1, 'names no signature')),
});

/** An image of a stage. */
const imageSchema = v.object({
  /** As in the list. */
  reference: v.pipe(v.string(), v.nonEmpty()),
  /** Full references that must resolve, at least one. */
  names: v.pipe(v.array(v.pipe(v.string(), v.nonEmpty())), v.minLength(1)),
  /** Of the manifest, or of the manifest list. */
  manifestDigest: digestSchema,
  /** Of the manifest for the bundle's architecture, if `manifestDigest` is that of a list. */
  instanceDigest: v.exactOptional(digestSchema),
  /** Its names in the releases of the bundle, such as `etcd`, for people; left out if no release names it. */
  components: v.exactOptional(v.pipe(v.array(v.pipe(v.string(), v.nonEmpty())), v.minLength(1, 'names no component'))),
  /** Of the manifest and, for a list, of the instances that are kept, in the order in which engines read them. */
  signatures: v.exactOptional(v.array(signatureSchema)),
  /** Of the same manifests; the order has no meaning. */
  attachments: v.exactOptional(v.array(attachmentSchema)),
  /**
   * What its list names and the input of the build did not have, as a registry may have some platforms only. Instances for other architectures that it
   * had are not named, although no payload has them.
   */
  absent: v.exactOptional(v.array(v.object({ digest: digestSchema, platform: v.string() }))),
  /** Sum of its distinct layers for the bundle's architecture, as stored in the payload. */
  compressedBytes: bytes,
  /** The same, unpacked. */
  unpackedBytes: bytes,
});

/** Smallest size of a piece: smaller pieces would only make the manifest longer. */
export const LEAST_PIECE_BYTES = 1024 * 1024;

const pieces = v.object({
  /** Of each piece but the last, which has the remaining bytes. */
  sizeBytes: v.pipe(v.number(), v.safeInteger(), v.minValue(LEAST_PIECE_BYTES)),
  /** Of the pieces, in their order. */
  sha256: v.array(sha256),
});

const verity = v.object({
  /** File with the dm-verity superblock and hash tree. */
  hashTree: path,
  rootHash: sha256,
});

/** Compressions of a squashfs that store images are built with. */
export const STORE_ALGORITHMS = ['gzip', 'xz', 'zstd'] as const;

const compression = v.object({
  algorithm: v.picklist(STORE_ALGORITHMS),
  /** As in mksquashfs(1); left out for xz, which has no levels. */
  level: v.exactOptional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
});

const payloadSchema = v.variant('kind', [
  /** One `.tgz` per image, list files beside them. */
  v.object({ kind: v.literal('archives'), path }),
  /** One OCI image layout with all images of all stages. */
  v.object({ kind: v.literal('oci'), path }),
  /** A read-only containers-storage of one stage, with the registry tree of its manifests and configs and, optionally, a registry image. */
  v.object({
    kind: v.literal('store'),
    stage: v.picklist(STAGES),
    /** Two stages with equal images name the same files. */
    image: path,
    /** The compression of the image; earlier builds do not state it and used zstd. */
    compression: v.exactOptional(compression),
    /** So that the image can be hashed on several cores. */
    pieces: v.exactOptional(pieces),
    verity,
    mirror: path,
    /** References of images that are not in the mirror: operating systems, because their layers are not read from the store. */
    unmirrored: v.exactOptional(v.array(v.string())),
    /** A registry tree with these images complete, which nodes serve beside the mirror. */
    osTree: v.exactOptional(path),
    /** References of those of these images that are not in the store. */
    unstored: v.exactOptional(v.array(v.string())),
    registryImage: v.exactOptional(v.string()),
  }),
  /** A registry tree of distribution with all blobs and, optionally, the image in it that can serve it. */
  v.object({ kind: v.literal('registry'), path, registryImage: v.exactOptional(v.string()) }),
]);

const bundleSchema = v.object({
  apiVersion: v.literal(BUNDLE_VERSION),
  kind: v.literal('Bundle'),
  /** OpenShift release, such as 4.14.0; empty if it is not known. */
  release: v.string(),
  /** GOARCH name. */
  architecture: v.pipe(v.string(), v.nonEmpty()),
  /** RFC 3339, from SOURCE_DATE_EPOCH if set. */
  createdAt: v.pipe(v.string(), v.isoTimestamp()),
  createdBy: v.object({ name: v.string(), version: v.string() }),
  stages: v.pipe(
    v.unknown(),
    // An object with only optional fields would also accept a list.
    v.check((value) => !Array.isArray(value), 'is a list'),
    v.object({
      discovery: v.exactOptional(v.object({ images: v.array(imageSchema) })),
      installed: v.exactOptional(v.object({ images: v.array(imageSchema) })),
    }),
  ),
  payloads: v.array(payloadSchema),
  /** Of releases in the bundle; left out if there are none. */
  releaseSignatures: v.exactOptional(v.array(releaseSignatureSchema)),
  /** Every file of the bundle except this one, sorted by path. */
  files: v.array(v.object({ path, sizeBytes: bytes, sha256 })),
});

export type Bundle = v.InferOutput<typeof bundleSchema>;
export type BundleImage = v.InferOutput<typeof imageSchema>;
export type ReleaseSignature = v.InferOutput<typeof releaseSignatureSchema>;
export type BundlePayload = v.InferOutput<typeof payloadSchema>;
export type StoreCompression = Readonly<v.InferOutput<typeof compression>>;
export type StorePieces = Readonly<v.InferOutput<typeof pieces>>;
export type BundleFile = Bundle['files'][number];

/**
 * Reads a bundle's manifest.
 * @param where its path, for messages
 * @throws PrestageError ERR_BUNDLE with every fault and its place in the document
 */
export function parseBundle(text: string, where: string): Bundle {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), bundleSchema), text);
  if (!parsed.success) throw unreadable(where, schemaFaults(parsed.issues));
  const faults = inconsistencies(parsed.output);
  if (faults.length > 0) throw unreadable(where, faults);
  return parsed.output;
}

/** The text of a manifest: keys in the order of the schema, files and images as given, indented by two spaces, with a newline at the end. The same bundle gives the same bytes. */
export function formatBundle(bundle: Bundle): string {
  return `${JSON.stringify(v.parse(bundleSchema, bundle), undefined, 2)}\n`;
}

/** The images of a stage, or an error that says which stages the bundle has. */
export function bundleImages(bundle: Bundle, stage: Stage, where: string): readonly BundleImage[] {
  const found = bundle.stages[stage];
  if (found !== undefined) return found.images;
  throw new PrestageError(
    'ERR_PAYLOAD_MISSING',
    `${where} has no stage "${stage}"; its stages: ${Object.keys(bundle.stages).join(', ') || 'none'}`,
    `Build the bundle with --list-${stage}`,
  );
}

/** Whether a bundle has a store image for a stage; by default it is mounted. */
export function hasStoreImage(bundle: Bundle, stage: Stage): boolean {
  return bundle.payloads.some((payload) => payload.kind === 'store' && payload.stage === stage);
}

/** No path in a bundle needs them, and a line end would also end the line in a unit or a configuration that names the path. */
const CONTROL = /\p{Cc}/u;

/** The compression of a store image in words: `zstd level 6`. */
export function compressionText({ algorithm, level }: StoreCompression): string {
  return level === undefined ? algorithm : `${algorithm} level ${level}`;
}

/** Whether a bundle's manifest may name this path: relative, normalized, inside the bundle, without control characters. */
export function isInnerPath(text: string): boolean {
  return (
    text !== '' &&
    text.length <= 4096 &&
    !CONTROL.test(text) &&
    text.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

/** Faults that the schema cannot find: repeated or unsorted paths, payloads without files. */
function inconsistencies(bundle: Bundle): readonly string[] {
  const paths = bundle.files.map((file) => file.path);
  const ordered = [...new Set(paths)].toSorted();
  const unsorted = paths.findIndex((path, index) => path !== ordered[index]);
  const hasFile = (wanted: string): boolean => paths.some((file) => file === wanted || file.startsWith(`${wanted}/`));
  const missing = bundle.payloads.flatMap(payloadPaths).filter((wanted) => !hasFile(wanted));
  const sealed = paths.filter((file) => file === BUNDLE_FILE || file === PARTIAL_FILE);
  return [
    ...(unsorted < 0 ? [] : [`files.${unsorted}.path: "${paths[unsorted]}" is repeated or out of order`]),
    ...missing.map((wanted) => `payloads: "${wanted}" is not among the files`),
    ...signatureFaults(bundle),
    ...attachmentFaults(bundle),
    ...bundle.payloads.flatMap((payload) => (payload.kind === 'store' ? pieceFaults(payload, bundle.files) : [])),
    ...sealed.map((file) => `files: "${file}" cannot list itself`),
  ];
}

/** Folder of a bundle for the files of signatures. */
const SIGNATURES_FOLDER = 'signatures';

/** The path of a signature file in a bundle, by its digest: a manifest, a payload, an empty config, or an OpenPGP message. */
export function signaturePath(of: Digest): string {
  return `${SIGNATURES_FOLDER}/sha256/${hexOf(of)}`;
}

/** Signatures whose files are not in the bundle under their digests. */
function signatureFaults({ stages, files, releaseSignatures = [] }: Bundle): readonly string[] {
  const images = STAGES.flatMap((stage) => stages[stage]?.images ?? []);
  const named = new Set(images.flatMap(({ signatures = [] }) => signatures.map((one) => (one.kind === 'gpg' ? one.file : one.manifest))));
  const sealed = new Set(files.flatMap((file) => (file.path === `${SIGNATURES_FOLDER}/sha256/${file.sha256}` ? [file.sha256] : [])));
  const ofReleases = new Set(releaseSignatures.flatMap((one) => one.files));
  const isMissing = (one: Digest): boolean => !sealed.has(hexOf(one));
  return [
    ...[...named].filter(isMissing).map((one) => `stages: the signature ${one} is not among the files`),
    ...[...ofReleases].filter(isMissing).map((one) => `releaseSignatures: the signature ${one} is not among the files`),
  ];
}

/** Attachments whose manifests are not in the bundle; `verify` also looks for the blobs that they name. */
function attachmentFaults({ stages, files }: Bundle): readonly string[] {
  const named = STAGES.flatMap((stage) => stages[stage]?.images ?? []).flatMap(({ attachments = [] }) => attachments);
  const sealed = new Set(files.map((file) => file.sha256));
  const missing = new Set(named.flatMap(({ manifest }) => (sealed.has(hexOf(manifest)) ? [] : [manifest])));
  return [...missing].map((one) => `stages: the attachment ${one} is not among the files`);
}

/** Pieces that do not match the size of the image. */
function pieceFaults({ image, pieces: of }: Extract<BundlePayload, { kind: 'store' }>, files: readonly BundleFile[]): readonly string[] {
  const file = files.find(({ path: one }) => one === image);
  if (of === undefined || file === undefined || of.sha256.length === Math.ceil(file.sizeBytes / of.sizeBytes)) return [];
  return [`payloads: "${image}" has ${file.sizeBytes} bytes, but ${of.sha256.length} pieces of ${of.sizeBytes} bytes`];
}

/** The files and folders of a payload. Pure. */
export function payloadPaths(payload: BundlePayload): readonly string[] {
  if (payload.kind !== 'store') return [payload.path];
  return [payload.image, payload.verity.hashTree, payload.mirror, ...(payload.osTree === undefined ? [] : [payload.osTree])];
}

function unreadable(where: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE',
    listFaults(`${where} is not the manifest of a bundle`, faults),
    'Build the bundle again at the factory, or write it to the partition again',
  );
}
