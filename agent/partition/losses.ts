import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readManifest } from '../bundle/read-bundle.ts';
import type { Host } from '../host/host.ts';
import { mountReadOnly } from '../host/mounts.ts';
import { privateTarget } from '../host/private-mount.ts';
import { spaceAt } from '../host/space.ts';
import { PrestageError } from '../model/errors.ts';
import type { DiskFacts, DiskPartition } from './disk-facts.ts';
import { announcePartition } from './kernel-partitions.ts';

/** What a partition holds, for the person who is about to lose it. */
export interface Losses {
  /** Bytes in use; undefined where the file system does not mount. */
  readonly usedBytes: number | undefined;
  /** Release of the bundle; undefined where there is no bundle with a manifest. */
  readonly release: string | undefined;
  /** Names at the top, sorted, the first 20. */
  readonly names: readonly string[];
}

const SHOWN_NAMES = 20;
const MOUNTABLE: readonly string[] = ['xfs', 'ext2', 'ext3', 'ext4', 'iso9660', 'vfat', 'btrfs'];

/** Looks, read-only, at what a partition holds. What cannot be mounted is said to be unknown: it can be replaced all the same. */
export async function surveyLosses(host: Host, disk: DiskFacts, partition: DiskPartition): Promise<Losses> {
  const { fileSystem, device } = partition;
  const unknown: Losses = { usedBytes: undefined, release: undefined, names: [] };
  if (fileSystem === undefined || !MOUNTABLE.includes(fileSystem)) return unknown;
  await announcePartition(host, disk, partition);
  try {
    await using mount = await mountReadOnly(host, { device, fileSystem, target: await privateTarget(host) });
    const { sizeBytes, freeBytes } = await spaceAt(mount.path);
    const names = (await readdir(mount.path)).toSorted().slice(0, SHOWN_NAMES);
    return { usedBytes: sizeBytes - freeBytes, release: await releaseAt(mount.path), names: names.map((name) => join('/', name)) };
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_PARTITION_MOUNT') return unknown;
    throw error;
  }
}

async function releaseAt(directory: string): Promise<string | undefined> {
  try {
    return (await readManifest(directory)).bundle.release;
  } catch (error) {
    if (error instanceof PrestageError) return undefined;
    throw error;
  }
}
