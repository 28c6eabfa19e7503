import { existsSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from '../host/acts.ts';
import { output } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { type MountLease, mountReadOnly } from '../host/mounts.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { type BlockPartition, choosePartition, LSBLK_ARGS, parseBlkid, parseLsblk, udevName } from './find.ts';

/** Interval between two looks for a missing device, in milliseconds. */
const POLL_MS = 500;

export interface OpenPartition extends MountLease {
  readonly device: string;
  readonly fileSystem: string;
  readonly sizeBytes: number;
}

export interface PartitionRequest {
  readonly label: string;
  /** How long to wait for the device, in seconds; 0 looks once. */
  readonly waitSeconds: number;
  /** Where to mount it. */
  readonly target: string;
}

/** The directory where the data partition is mounted while a run reads it; private to root. */
export const PARTITION_TARGET = '/run/prestage-agent/partition';

/**
 * Finds the partition with a GPT label, waits for a late device, and mounts it read-only. The lease unmounts it and never deletes anything.
 * @throws PrestageError ERR_PARTITION_MISSING, ERR_PARTITION_AMBIGUOUS, ERR_PARTITION_FILESYSTEM, ERR_PARTITION_MOUNT
 */
export async function openPartition(host: Host, request: PartitionRequest, act: Act, signal?: AbortSignal): Promise<OpenPartition> {
  const partition = await waitForPartition(host, request, signal);
  const { device, fileSystem, sizeBytes } = partition;
  host.log('info', `partition "${request.label}" is ${device} (${fileSystem}, ${formatBytes(sizeBytes)})`);
  const mount = await act('mount-partition', async () => await mountReadOnly(host, { device, fileSystem, target: request.target }));
  return {
    device,
    fileSystem,
    sizeBytes,
    path: mount.path,
    [Symbol.asyncDispose]: async () => await act('unmount-partition', async () => await mount[Symbol.asyncDispose]()),
  };
}

/** The partitions of this machine with their labels, from lsblk, from the by-partlabel link, and from blkid if the machine has no udev. */
async function listPartitions(host: Host, label: string): Promise<readonly BlockPartition[]> {
  const listed = parseLsblk(await output(host.exec, 'lsblk', LSBLK_ARGS)).filter((partition) => existsSync(partition.device));
  const linked = await linkedDevice(host, label);
  const missing =
    linked === undefined || listed.some((partition) => partition.device === linked)
      ? []
      : [{ device: linked, sizeBytes: 0, label, fileSystem: undefined }];
  return await Promise.all([...listed, ...missing].map(async (partition) => await probed(host, partition, label)));
}

async function waitForPartition(host: Host, request: PartitionRequest, signal?: AbortSignal) {
  const start = host.clock.monotonicMs();
  for (let round = 0; ; round++) {
    const partitions = await listPartitions(host, request.label);
    const chosen = choosePartition(partitions, request.label);
    if (chosen !== undefined) return chosen;
    const waitedSeconds = (host.clock.monotonicMs() - start) / 1000;
    if (waitedSeconds >= request.waitSeconds) throw missingPartition(partitions, request);
    if (round % 20 === 0)
      host.log(
        'info',
        `waiting for a partition with the label "${request.label}" (${Math.round(waitedSeconds)} of at most ${request.waitSeconds} s)`,
      );
    await host.clock.sleep(POLL_MS, signal);
  }
}

async function linkedDevice(host: Host, label: string): Promise<string | undefined> {
  try {
    return await realpath(join(hostPath(host, '/dev/disk/by-partlabel'), udevName(label)));
  } catch {
    return undefined;
  }
}

/** Probes the device for what lsblk does not know. The file system is probed only if the label can match. */
async function probed(host: Host, partition: BlockPartition, label: string): Promise<BlockPartition> {
  if (partition.label !== undefined && (partition.label !== label || partition.fileSystem !== undefined)) return partition;
  const result = await host.exec('blkid', ['--probe', '--output', 'export', partition.device]);
  const probe = parseBlkid(result.stdout);
  return { ...partition, label: partition.label ?? probe.label, fileSystem: partition.fileSystem ?? probe.fileSystem };
}

function missingPartition(partitions: readonly BlockPartition[], request: PartitionRequest): PrestageError {
  const seen = partitions.flatMap((partition) => (partition.label === undefined ? [] : [`"${partition.label}" (${partition.device})`]));
  return new PrestageError(
    'ERR_PARTITION_MISSING',
    `no partition has the GPT label "${request.label}" after ${request.waitSeconds} s; labels seen: ${seen.length === 0 ? 'none' : seen.join(', ')}`,
    'Check that the disk is attached, check its labels (lsblk -o NAME,PARTLABEL), or set --label or --device-wait',
  );
}
