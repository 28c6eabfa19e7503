import { type Digest, digestOf } from './digest.ts';

/**
 * Records of the agent that survive a reboot carry a seal, the digest of their JSON: without it, a flipped bit would go unnoticed. The
 * seal protects against damage, not against an attacker, who could make a new one.
 */

/** The text of a record with its seal as the first key; indented by two spaces, with a newline at the end. */
export function sealRecord(record: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify({ seal: sealOf(record), ...record }, undefined, 2)}\n`;
}

/** The record in a sealed text, or undefined if the text is truncated or damaged. */
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
