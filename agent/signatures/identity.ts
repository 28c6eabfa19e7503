import { formatReference, nameOf, type Reference, readReference } from '../model/reference.ts';
import type { SignedIdentity } from './policy.ts';

/**
 * Whether the signed name matches the image that is pulled.
 * Source: containers-policy.json(5), "signedIdentity"; containers/image, signature/policy_reference_match.go.
 * @param signedName the name in the signature
 * @param fullName the image at its source, never at a mirror, with tag or digest
 */
export function matchesIdentity(identity: SignedIdentity, signedName: string, fullName: string): boolean {
  const signed = parse(signedName);
  const pulled = parse(fullName);
  if (signed === undefined || pulled === undefined) return false;
  switch (identity.kind) {
    case 'matchExact':
      return isExact(signed, pulled);
    case 'matchRepoDigestOrExact':
      return matchesRepoDigestOrExact(signed, pulled);
    case 'matchRepository':
      return nameOf(signed) === nameOf(pulled);
    case 'exactReference': {
      const wanted = parse(identity.name);
      return wanted !== undefined && isExact(signed, wanted);
    }
    case 'exactRepository': {
      const wanted = parse(identity.name);
      return wanted !== undefined && nameOf(signed) === nameOf(wanted);
    }
    case 'remapIdentity': {
      const remapped = parse(remap(formatReference(pulled), identity));
      return remapped !== undefined && matchesRepoDigestOrExact(signed, remapped);
    }
  }
}

/** With a tag, the signed name must be exactly the same. With a digest, only the repository must match, since the signature names the digest itself. */
function matchesRepoDigestOrExact(signed: Reference, pulled: Reference): boolean {
  if (isNameOnly(signed)) return false;
  if (pulled.tag !== undefined) return isExact(signed, pulled);
  return pulled.digest !== undefined && nameOf(signed) === nameOf(pulled);
}

function isExact(signed: Reference, pulled: Reference): boolean {
  return !isNameOnly(signed) && !isNameOnly(pulled) && formatReference(signed) === formatReference(pulled);
}

function isNameOnly({ tag, digest }: Reference): boolean {
  return tag === undefined && digest === undefined;
}

function remap(fullName: string, { prefix, signedPrefix }: Extract<SignedIdentity, { kind: 'remapIdentity' }>): string {
  if (!fullName.startsWith(prefix)) return fullName;
  const rest = fullName.slice(prefix.length);
  return rest === '' || /^[:/@]/.test(rest) ? `${signedPrefix}${rest}` : fullName;
}

function parse(text: string): Reference | undefined {
  const reference = readReference(text);
  return typeof reference === 'string' ? undefined : reference;
}
