import { existsSync } from 'node:fs';
import type { Host } from './host.ts';

/** Whether systemd is the init system of this machine, and the host is the machine itself, not only a directory tree. Source: sd_booted(3). */
export function hasSystemd(host: Pick<Host, 'root'>): boolean {
  return host.root === '/' && existsSync('/run/systemd/system');
}

/** The capabilities of a process of the agent on a node; the units in agent/units have the same list. Source: capabilities(7). */
export const CAPABILITIES =
  'CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE CAP_SETFCAP CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SYS_NICE';
