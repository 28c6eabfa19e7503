import { open } from 'node:fs/promises';
import type { Host } from '../host/host.ts';
import { isOlderRelease } from '../model/release.ts';

/** Offset of sb_features_incompat in a superblock, big-endian. A kernel that does not know one of its bits refuses to mount the file system, even read-only. */
const INCOMPAT_OFFSET = 216;
const SUPERBLOCK_BYTES = 512;
const MAGIC = 'XFSB';

/**
 * Incompatible features that new releases of mkfs.xfs turn on, with the first OpenShift release whose kernel is expected to mount them: RHEL 9 with
 * 4.13, RHEL 9.4 with 4.16, and a kernel of 6.10 or later with 5.0.
 * Sources: Linux, fs/xfs/libxfs/xfs_format.h, XFS_SB_FEAT_INCOMPAT_*; mkfs.xfs(8).
 */
const FEATURES: readonly { readonly bit: number; readonly name: string; readonly since: string }[] = [
  { bit: 3, name: 'bigtime', since: '4.13' },
  { bit: 5, name: 'nrext64', since: '4.16' },
  { bit: 6, name: 'exchange', since: '5.0' },
  { bit: 7, name: 'parent', since: '5.0' },
  { bit: 8, name: 'metadir', since: '5.0' },
];

/**
 * Features that nodes of a release probably cannot mount, each with the first release that can: `nrext64 (from 4.16 on)`. Pure.
 * @param incompat sb_features_incompat of an XFS superblock
 * @param release such as 4.14.0; if unknown, the oldest nodes are assumed
 */
export function unmountableFeatures(incompat: number, release: string): readonly string[] {
  const found = FEATURES.filter(({ bit, since }) => (incompat & (1 << bit)) !== 0 && (isOlderRelease(release, since) ?? true));
  return found.map(({ name, since }) => `${name} (from ${since} on)`);
}

/** Warns of a file system that nodes of a release probably cannot mount. If it cannot be read, the mount will report that. */
export async function warnOfFeatures(host: Host, device: string, release: string): Promise<void> {
  const incompat = await readIncompat(device).catch(() => undefined);
  const features = incompat === undefined ? [] : unmountableFeatures(incompat, release);
  if (features.length === 0) return;
  host.log(
    'warning',
    `${device}: older OpenShift releases may be unable to mount this XFS, because of: ${features.join(', ')}; to create it again, run prestage-agent partition create --replace`,
  );
}

async function readIncompat(device: string): Promise<number | undefined> {
  await using file = await open(device, 'r');
  const { buffer, bytesRead } = await file.read(Buffer.alloc(SUPERBLOCK_BYTES), 0, SUPERBLOCK_BYTES, 0);
  const isXfs = bytesRead === SUPERBLOCK_BYTES && buffer.toString('latin1', 0, MAGIC.length) === MAGIC;
  return isXfs ? buffer.readUInt32BE(INCOMPAT_OFFSET) : undefined;
}
