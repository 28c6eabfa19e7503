import * as v from 'valibot';
import { type Digest, isDigest } from '../model/digest.ts';
import { schemaFaults } from '../model/faults.ts';

/** What a signature says was signed. */
export interface SignedClaim {
  /** Of the manifest. */
  readonly digest: Digest;
  /** The name that the signer gave the image. */
  readonly reference: string;
}

/** What the signature's text names itself: the two kinds cannot stand in for each other. */
const TYPES = { sigstore: 'cosign container image signature', gpg: 'atomic container signature' } as const;

/**
 * Reads what was signed. The signature over these bytes must have been checked before. Engines refuse fields that they do not know in
 * `critical`, so they are refused here.
 * Source: containers/image, docs/containers-signature.5.md and signature/internal/sigstore_payload.go.
 * @returns the claim, or a sentence that says why it is not one
 */
export function readClaim(bytes: Buffer, by: keyof typeof TYPES): SignedClaim | string {
  const schema = v.strictObject({
    critical: v.strictObject({
      type: v.literal(TYPES[by]),
      image: v.strictObject({
        'docker-manifest-digest': v.custom<Digest>((value) => typeof value === 'string' && isDigest(value), 'is not a sha256 digest'),
      }),
      identity: v.strictObject({ 'docker-reference': v.string() }),
    }),
    optional: v.nullable(v.record(v.string(), v.unknown())),
  });
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON'), schema), bytes.toString('utf8'));
  if (!parsed.success) return `the signed text is not that of a signature: ${schemaFaults(parsed.issues)[0]}`;
  const { image, identity } = parsed.output.critical;
  return { digest: image['docker-manifest-digest'], reference: identity['docker-reference'] };
}
