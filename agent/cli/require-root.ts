import { stat } from 'node:fs/promises';
import type { Host } from '../host/host.ts';
import { type ErrorRecord, PrestageError } from '../model/errors.ts';
import { isDenial } from '../model/system-error.ts';

const WITH_SUDO = 'give it again with sudo';

/**
 * Refuses a command that only root can finish, before it opens anything. Below another root directory (`--root`), a user can own everything.
 * @param why what root is needed for, in words that follow "takes root: it"
 * @throws PrestageError ERR_ROOT
 */
export function requireRoot(host: Pick<Host, 'root'>, command: string, why: string): void {
  if (host.root !== '/' || process.geteuid?.() === 0) return;
  throw new PrestageError('ERR_ROOT', `${command} takes root: it ${why}`, `Give it again with sudo: sudo prestage-agent ${command} …`);
}

/**
 * Refuses a path that has to be mounted, a device or a disk image, if this user cannot mount; a folder takes no root.
 * @throws PrestageError ERR_ROOT
 */
export async function requireRootToMount(host: Pick<Host, 'root'>, command: string, path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isBlockDevice() === true || found?.isFile() === true) requireRoot(host, command, `mounts ${path}`);
}

/** The record of an error; if the kernel denies this user something that root may do, the remedy says so. */
export function withSudo(record: ErrorRecord, error: unknown): ErrorRecord {
  if (record.code === 'ERR_ROOT' || process.geteuid?.() === 0 || !isDenial(error)) return record;
  return { ...record, remedy: `This takes root, or other permissions: ${WITH_SUDO}, or name a path that belongs to this user` };
}
