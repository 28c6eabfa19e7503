import { basename } from 'node:path';
import type { Host } from './host.ts';

/** Number of last kernel messages that can concern a recent failure. */
const LAST_LINES = 30;

/**
 * The last kernel message about a device, such as `XFS (sda5): Superblock has unknown incompatible features (0x20) enabled.`; undefined if there
 * is none. Pure.
 * @param messages as dmesg(1) prints them, the newest last
 * @param device its path, or the words of a driver whose messages do not name it
 */
export function kernelReason(messages: string, device: string | RegExp): string | undefined {
  const lines = messages.trimEnd().split('\n').slice(-LAST_LINES);
  const names = (line: string): boolean => (typeof device === 'string' ? line.includes(`(${basename(device)})`) : device.test(line));
  const isAbout = (line: string): boolean => names(line) && !/: (?:Mounting|Ending|Unmounting)\b/i.test(line);
  return lines.findLast(isAbout)?.replace(/^\[[\s\d.]+\]\s*/, '');
}

/** The same for people, as an addition to a message of mount(8); empty if the kernel messages cannot be read. */
export async function kernelSaid(host: Host, device: string | RegExp): Promise<string> {
  const result = await host.exec('dmesg', []).catch(() => undefined);
  const reason = result?.exitCode === 0 ? kernelReason(result.stdout, device) : undefined;
  return reason === undefined ? '' : ` (kernel: ${reason})`;
}
