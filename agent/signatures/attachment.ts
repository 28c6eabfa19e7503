import * as v from 'valibot';
import { type Digest, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults, schemaFaults } from '../model/faults.ts';
import type { Descriptor } from '../model/manifest.ts';
import { digestSchema } from '../model/schemas.ts';

/**
 * The sigstore signatures of an image, as stored beside it in a registry: an OCI manifest under a tag with the digest of the image, and one layer for
 * each signature. Source for this file: cosign, specs/SIGNATURE_SPEC.md; containers/image, docker/docker_image_src.go, getSignaturesFromSigstoreAttachments.
 */
export interface Attachment {
  readonly config: Descriptor;
  readonly signatures: readonly AttachedSignature[];
}

/** One signature: its layer is the payload, the text that was signed. */
export interface AttachedSignature extends Descriptor {
  /** Base64 of the signature over the payload; undefined if the layer has none. */
  readonly signature: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

export const SIGSTORE_PAYLOAD_TYPE = 'application/vnd.dev.cosign.simplesigning.v1+json';
export const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature';
/** containers/image reads no larger payload (internal/iolimits, MaxSignatureBodySize). */
export const PAYLOAD_LIMIT_BYTES = 4 * 1024 * 1024;
/** In practice no image has more, and engines read all of them at each pull. */
export const SIGNATURES_LIMIT = 64;

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const descriptor = {
  mediaType: v.string(),
  digest: digestSchema,
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
};
const attachmentSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.literal(MANIFEST_TYPE, 'is not that of an OCI image manifest'), MANIFEST_TYPE),
  config: v.object(descriptor),
  layers: v.pipe(
    v.array(v.object({ ...descriptor, annotations: v.optional(v.record(v.string(), v.string()), {}) })),
    v.maxLength(SIGNATURES_LIMIT, `has more than ${SIGNATURES_LIMIT} signatures`),
  ),
});
const TAG = /^sha256-([0-9a-f]{64})\.sig$/;

/** The tag for the signatures of a manifest, in the repository of the image. */
export function signatureTag(digest: Digest): string {
  return `sha256-${hexOf(digest)}.sig`;
}

/** The manifest whose signatures a tag holds; undefined if it is not a tag for signatures. */
export function signedByTag(tag: string): Digest | undefined {
  const hex = TAG.exec(tag)?.[1];
  return hex === undefined ? undefined : `sha256:${hex}`;
}

/**
 * Reads the manifest of an attachment. Layers of other types are ignored, as engines do.
 * @param where what it belongs to, for messages
 * @throws PrestageError ERR_SIGNATURE with every fault: not a manifest, a list, too many signatures, or a payload above 4 MiB
 */
export function parseAttachment(text: string, where: string): Attachment {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON'), attachmentSchema), text);
  if (!parsed.success) throw unreadable(where, schemaFaults(parsed.issues));
  const { config, layers } = parsed.output;
  const signatures = layers
    .filter(({ mediaType }) => mediaType === SIGSTORE_PAYLOAD_TYPE)
    .map(
      ({ mediaType, digest, size, annotations }): AttachedSignature => ({
        mediaType,
        digest,
        sizeBytes: size,
        signature: annotations[SIGNATURE_ANNOTATION],
        annotations,
      }),
    );
  const large = signatures.filter(({ sizeBytes }) => sizeBytes > PAYLOAD_LIMIT_BYTES);
  if (large.length > 0) {
    throw unreadable(
      where,
      large.map(({ digest, sizeBytes }) => `${digest} has ${sizeBytes} bytes, but engines read no payload above ${PAYLOAD_LIMIT_BYTES}`),
    );
  }
  return { config: { mediaType: config.mediaType, digest: config.digest, sizeBytes: config.size }, signatures };
}

function unreadable(where: string, faults: readonly string[]): PrestageError {
  return new PrestageError(
    'ERR_SIGNATURE',
    listFaults(
      `the signatures of ${where} cannot be read`,
      faults.map((fault) => `the signatures of ${where} cannot be read: ${fault}`),
    ),
    'Check that tag in the registry; sign the image again, or pull it from another source',
  );
}
