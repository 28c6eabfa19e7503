import { createHash } from 'node:crypto';

/**
 * A content digest, always sha256 with 64 lower-case hex digits.
 * Source: OCI image-spec, descriptor.md, "Digests".
 */
export type Digest = `sha256:${string}`;

const DIGEST = /^sha256:[0-9a-f]{64}$/;
const HEX = /^[0-9a-f]{64}$/;

/** Whether the text is a digest that this program handles (sha256 only). */
export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** The digest whose hex digits are the given file name, or undefined if the name is not one. */
export function digestOfHex(hex: string): Digest | undefined {
  return HEX.test(hex) ? `sha256:${hex}` : undefined;
}

/** The 64 hex digits, which name a blob in the `dir:` layout. */
export function hexOf(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

/** The digest of bytes that are in memory. */
export function digestOf(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Digits that tell the digests on one node apart, as podman shows them. */
const SHORT_DIGITS = 12;

/** The text with each digest cut to 12 digits, for a console. */
export function shortDigests(text: string): string {
  return text.replace(/\bsha256:([0-9a-f]{64})\b/g, (_whole, hex: string) => `sha256:${hex.slice(0, SHORT_DIGITS)}…`);
}
