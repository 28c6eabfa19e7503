import * as v from 'valibot';
import type { Digest } from '../model/digest.ts';
import { schemaFaults } from '../model/faults.ts';
import { digestSchema } from '../model/schemas.ts';

/** The signed statement of a signature. */
export interface SignedClaim {
  /** Digest of the manifest. */
  readonly digest: Digest;
  /** The name that the signer gave the image. */
  readonly reference: string;
}

/** The `type` in the signed text of each kind. One kind cannot be used as the other. */
const TYPES = { sigstore: 'cosign container image signature', gpg: 'atomic container signature' } as const;

/**
 * Reads the signed statement. The signature over these bytes must have been checked before. Engines refuse unknown fields in `critical`, so they are
 * refused here, too.
 * Source: containers/image, docs/containers-signature.5.md and signature/internal/sigstore_payload.go.
 * @returns the claim, or the reason why it is not valid
 */
export function readClaim(bytes: Buffer, by: keyof typeof TYPES): SignedClaim | string {
  const schema = v.strictObject({
    critical: v.strictObject({
      type: v.literal(TYPES[by]),
      image: v.strictObject({
        'docker-manifest-digest': digestSchema,
      }),
      identity: v.strictObject({ 'docker-reference': v.string() }),
    }),
    optional: v.nullable(v.record(v.string(), v.unknown())),
  });
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(undefined, 'is not JSON'), schema), bytes.toString('utf8'));
  if (!parsed.success) return `the signed text is not a valid signature payload: ${schemaFaults(parsed.issues)[0]}`;
  const { image, identity } = parsed.output.critical;
  return { digest: image['docker-manifest-digest'], reference: identity['docker-reference'] };
}
