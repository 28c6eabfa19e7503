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

/** Content of a partition, shown to the person before it is discarded. */
export interface Losses {
  /** Bytes in use; undefined if the file system cannot be mounted. */
  readonly usedBytes: number | undefined;
  /** Release of the bundle; undefined if there is no bundle with a manifest. */
  readonly release: string | undefined;
  /** The first 20 names in the top directory, sorted. */
  readonly names: readonly string[];
}

const SHOWN_NAMES = 20;
const MOUNTABLE: readonly string[] = ['xfs', 'ext2', 'ext3', 'ext4', 'iso9660', 'vfat', 'btrfs'];

/** Reads, read-only, what a partition holds. If it cannot be mounted, its content is unknown; it can still be replaced. */
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
