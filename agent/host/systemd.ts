import { existsSync } from 'node:fs';
import type { Host } from './host.ts';

/** Whether systemd is the init system of the machine that this host is, and not of one whose directory it only sees. Source: sd_booted(3). */
export function hasSystemd(host: Pick<Host, 'root'>): boolean {
  return host.root === '/' && existsSync('/run/systemd/system');
}
