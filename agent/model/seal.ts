import { type Digest, digestOf } from './digest.ts';

/**
 * Records of our own that survive a reboot carry a seal, the digest of their JSON: a flipped bit in them would otherwise be believed. The
 * seal protects against damage, not against an attacker, who could make a new one.
 */

/** The text of a record with its seal as first key; two spaces, a newline at the end. */
export function sealRecord(record: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify({ seal: sealOf(record), ...record }, undefined, 2)}\n`;
}

/** The record in a sealed text, or undefined where the text is cut off or damaged. */
export function unsealRecord(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null || !('seal' in parsed)) return undefined;
    const { seal, ...record } = parsed;
    return seal === sealOf(record) ? record : undefined;
  } catch {
    return undefined;
  }
}

function sealOf(record: object): Digest {
  return digestOf(JSON.stringify(record));
}
