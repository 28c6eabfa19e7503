import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import type { Trust, TrustChoice } from '../model/store.ts';

export interface ChosenTrust {
  readonly kind: Trust;
  readonly reason: string;
}

export interface TrustFacts {
  /** What the machine lacks for dm-verity, in words; undefined if it lacks nothing. */
  readonly verityLacks: string | undefined;
  /** The bundle has a hash tree beside the image. */
  readonly hasHashTree: boolean;
  /** The image is copied, and hashed on the way. */
  readonly isCopiedNow: boolean;
}

/**
 * Decides how a store image is trusted. Pure.
 * @throws PrestageError ERR_TRUST if verity is requested and not possible
 */
export function chooseTrust(wanted: TrustChoice, facts: TrustFacts): ChosenTrust {
  const obstacle = facts.verityLacks ?? (facts.hasHashTree ? undefined : 'the bundle has no hash tree for the image');
  if (wanted === 'verity' && obstacle !== undefined) {
    throw new PrestageError('ERR_TRUST', `dm-verity was requested, but ${obstacle}`, 'Give --trust auto, or --trust hash');
  }
  if (wanted !== 'auto') return { kind: wanted, reason: 'it was requested' };
  if (obstacle === undefined)
    return { kind: 'verity', reason: 'the kernel checks blocks when they are read, and nothing has to be hashed beforehand' };
  return facts.isCopiedNow
    ? { kind: 'hash', reason: `${obstacle}; the image is hashed while it is copied` }
    : { kind: 'background', reason: `${obstacle}; the image is usable at once and hashed while the boot continues` };
}

/** Made by the kernel's device-mapper; programs set up devices through it. Source: Linux, drivers/md/dm-ioctl.c. */
const CONTROL = '/dev/mapper/control';
const USUAL_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/** What the machine lacks for dm-verity. Starts no program: only opening a device shows whether the kernel has the verity target. */
export async function verityFacts(host: Host): Promise<Pick<TrustFacts, 'verityLacks'>> {
  if (!(await canAccess(hostPath(host, CONTROL), constants.F_OK))) return { verityLacks: 'the kernel has no device-mapper' };
  const directories = (host.env.PATH ?? USUAL_PATH).split(':').filter((directory) => directory !== '');
  const found = await Promise.all(directories.map((directory) => canAccess(join(directory, 'veritysetup'), constants.X_OK)));
  return { verityLacks: found.includes(true) ? undefined : 'veritysetup is not installed on this machine' };
}

async function canAccess(path: string, mode: number): Promise<boolean> {
  return await access(path, mode).then(
    () => true,
    () => false,
  );
}
