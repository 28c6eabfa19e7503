import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type Digest, digestOf } from '../../agent/model/digest.ts';
import { SIGNATURE_ANNOTATION, SIGSTORE_PAYLOAD_TYPE, signatureTag } from '../../agent/signatures/attachment.ts';
import { writeBlob } from './image-layer.ts';
import type { MadeImage } from './images.ts';

/** A key that signs as cosign does. */
export interface SigningKey {
  /** The public half, PEM, as a policy has it. */
  readonly publicPem: Buffer;
  readonly privateKey: KeyObject;
}

/** Makes a key. Red Hat's is RSA, cosign's own are of the curve P-256. */
export function makeSigningKey(kind: 'rsa' | 'ec' | 'ed25519' = 'ec'): SigningKey {
  const pair =
    kind === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : kind === 'ec'
        ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
        : generateKeyPairSync('ed25519');
  return { publicPem: Buffer.from(pair.publicKey.export({ type: 'spki', format: 'pem' })), privateKey: pair.privateKey };
}

/** What a signature by cosign signs. Source: cosign, specs/SIGNATURE_SPEC.md. */
export function payloadOf(digest: Digest, reference: string): Buffer {
  const critical = {
    identity: { 'docker-reference': reference },
    image: { 'docker-manifest-digest': digest },
    type: 'cosign container image signature',
  };
  return Buffer.from(JSON.stringify({ critical, optional: null }));
}

/** A signature in base64, as the attachment has it. */
export function signatureOf(payload: Buffer, { privateKey }: SigningKey): string {
  return sign(privateKey.asymmetricKeyType === 'ed25519' ? undefined : 'sha256', payload, privateKey).toString('base64');
}

/** The manifest of an attachment with these signatures, and all its blobs. */
export function attachmentOf(signatures: readonly { readonly payload: Buffer; readonly signature: string }[]): {
  readonly digest: Digest;
  readonly manifest: Buffer;
  readonly blobs: ReadonlyMap<Digest, Buffer>;
} {
  const config = Buffer.from('{}');
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf(config), size: config.length },
      layers: signatures.map(({ payload, signature }) => ({
        mediaType: SIGSTORE_PAYLOAD_TYPE,
        digest: digestOf(payload),
        size: payload.length,
        annotations: { [SIGNATURE_ANNOTATION]: signature },
      })),
    }),
  );
  const digest = digestOf(manifest);
  const blobs = [config, manifest, ...signatures.map(({ payload }) => payload)].map((bytes) => [digestOf(bytes), bytes] as const);
  return { digest, manifest, blobs: new Map(blobs) };
}

/**
 * Signs the instances of an image as cosign does, and stores what lies beside it in a registry.
 * @param reference the name that is signed
 * @returns an image for each attachment, by its own tag
 */
export async function attachSignatures(
  store: string,
  image: MadeImage,
  { key, reference }: { readonly key: SigningKey; readonly reference: string },
): Promise<readonly MadeImage[]> {
  return await Promise.all(
    image.instances.map(async ({ architecture, manifest: { digest: subject } }): Promise<MadeImage> => {
      const payload = payloadOf(subject, reference);
      const { digest, blobs } = attachmentOf([{ payload, signature: signatureOf(payload, key) }]);
      const made = await Promise.all(
        [...blobs].map(async ([name, bytes]) => [name, await writeBlob(store, bytes.toString('utf8'))] as const),
      );
      const manifest = { digest, sizeBytes: blobs.get(digest)?.length ?? 0 };
      const layers = made
        .filter(([name]) => name !== digest)
        .map(([, blob]) => ({ ...blob, diffId: blob.digest, unpackedBytes: blob.sizeBytes, compression: 'gzip' as const }));
      const [config = manifest] = layers;
      const repository = image.reference.replace(/(?::[^/]*)?(?:@.*)?$/, '');
      return {
        reference: `${repository}:${signatureTag(subject)}`,
        digest,
        kind: 'image',
        format: 'oci',
        manifest,
        instances: [{ architecture, manifest, config, layers }],
      };
    }),
  );
}
