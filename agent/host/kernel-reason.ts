import { basename } from 'node:path';
import type { Host } from './host.ts';

/** Lines at the end of the kernel's messages that can be about what has just failed. */
const LAST_LINES = 30;

/**
 * What the kernel said last of a device, such as `XFS (sda5): Superblock has unknown incompatible features (0x20) enabled.`; undefined if it said
 * nothing. Pure.
 * @param messages as dmesg(1) prints them, the newest last
 */
export function kernelReason(messages: string, device: string): string | undefined {
  const lines = messages.trimEnd().split('\n').slice(-LAST_LINES);
  const isAbout = (line: string): boolean => line.includes(`(${basename(device)})`) && !/: (?:Mounting|Ending|Unmounting)\b/i.test(line);
  return lines.findLast(isAbout)?.replace(/^\[[\s\d.]+\]\s*/, '');
}

/** The same for people, to be put behind what mount(8) said: empty if the messages cannot be read. */
export async function kernelSaid(host: Host, device: string): Promise<string> {
  const result = await host.exec('dmesg', []).catch(() => undefined);
  const reason = result?.exitCode === 0 ? kernelReason(result.stdout, device) : undefined;
  return reason === undefined ? '' : ` (the kernel: ${reason})`;
}
