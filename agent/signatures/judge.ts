import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { Digest } from '../model/digest.ts';
import { matchesIdentity } from './identity.ts';
import { readClaim, type SignedClaim } from './payload.ts';
import type { PolicyEntry, Requirement } from './policy.ts';

/** A signature in memory. */
export type HeldSignature =
  /** `signature` is base64, as in the attachment; undefined if the attachment lacks it. */
  | { readonly kind: 'sigstore'; readonly payload: Buffer; readonly signature: string | undefined }
  /** An OpenPGP message, as in a lookaside. */
  | { readonly kind: 'gpg'; readonly message: Buffer };

/** An image that is about to be pulled. */
export interface JudgedImage {
  /** Full name at its source, with tag or digest. */
  readonly fullName: string;
  /** Digest of the verified manifest; for a list, that of the instance. */
  readonly digest: Digest;
  readonly signatures: readonly HeldSignature[];
}

/** Functions that the check needs from outside. */
export interface JudgeTools {
  /** Reads a key file of a policy. @throws if it cannot be read */
  readonly readKey: (path: string) => Promise<Buffer>;
  /** The text in an OpenPGP message that one of the keys has signed, or the reason why there is none. */
  readonly openGpg: (message: Buffer, keys: readonly Buffer[]) => Promise<Buffer | string>;
}

export type Verdict = { readonly accepted: true } | { readonly accepted: false; readonly reason: string };

/**
 * Decides whether an engine with this policy entry accepts an image with these signatures. Every requirement must be met; a required signature must be
 * met by at least one of them. Source: containers-policy.json(5); containers/image, signature/policy_eval.go.
 */
export async function judge(entry: PolicyEntry, image: JudgedImage, tools: JudgeTools): Promise<Verdict> {
  for (const requirement of entry.requirements) {
    const reason = await refusal(requirement, image, tools);
    if (reason !== undefined) return { accepted: false, reason };
  }
  return { accepted: true };
}

async function refusal(requirement: Requirement, image: JudgedImage, tools: JudgeTools): Promise<string | undefined> {
  switch (requirement.kind) {
    case 'accept':
      return undefined;
    case 'reject':
      return 'the policy rejects every image of this name';
    case 'unknown':
      return `the policy requires ${requirement.what}, which the agent cannot check`;
    case 'signed':
      return await signatureRefusal(requirement, image, tools);
  }
}

async function signatureRefusal(
  requirement: Extract<Requirement, { kind: 'signed' }>,
  image: JudgedImage,
  tools: JudgeTools,
): Promise<string | undefined> {
  const { by, identity } = requirement;
  const keys = await Promise.all(requirement.keys.map(async (key) => ('data' in key ? key.data : await tools.readKey(key.path))));
  const ofKind = image.signatures.filter(({ kind }) => kind === by);
  const reasons: string[] = [];
  for (const signature of ofKind) {
    const claim = await claimOf(signature, keys, tools);
    const reason = typeof claim === 'string' ? claim : claimRefusal(claim, image, identity);
    if (reason === undefined) return undefined;
    reasons.push(reason);
  }
  const kind = by === 'sigstore' ? 'sigstore' : 'GPG';
  return reasons.length === 0 ? `the policy requires a ${kind} signature, but the image has none` : [...new Set(reasons)].join('; ');
}

async function claimOf(signature: HeldSignature, keys: readonly Buffer[], tools: JudgeTools): Promise<SignedClaim | string> {
  if (signature.kind === 'sigstore') {
    const isSigned = keys.some((key) => isSignedBy(key, signature));
    return isSigned ? readClaim(signature.payload, 'sigstore') : 'the signature was made with another key';
  }
  const opened = await tools.openGpg(signature.message, keys);
  return typeof opened === 'string' ? opened : readClaim(opened, 'gpg');
}

function claimRefusal(claim: SignedClaim, image: JudgedImage, identity: Parameters<typeof matchesIdentity>[0]): string | undefined {
  if (claim.digest !== image.digest) return `the signature is for ${claim.digest}`;
  if (!matchesIdentity(identity, claim.reference, image.fullName)) return `the signature is for the name "${claim.reference}"`;
  return undefined;
}

/** RSA with PKCS #1 v1.5, ECDSA, both over SHA-256, or Ed25519. Source: sigstore, pkg/signature, LoadVerifier. */
function isSignedBy(pem: Buffer, { payload, signature }: Extract<HeldSignature, { kind: 'sigstore' }>): boolean {
  const key = publicKey(pem);
  if (key === undefined || signature === undefined) return false;
  const hash = key.asymmetricKeyType === 'ed25519' ? undefined : 'sha256';
  return verify(hash, payload, key, Buffer.from(signature, 'base64'));
}

function publicKey(pem: Buffer): KeyObject | undefined {
  try {
    return createPublicKey(pem);
  } catch {
    return undefined;
  }
}
