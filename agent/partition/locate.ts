import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { reclaimTargets } from '../host/private-mount.ts';
import { PrestageError } from '../model/errors.ts';
import { type OpenDisk, openDisk, readDisk } from './disk.ts';
import type { DiskFacts } from './disk-facts.ts';
import { choosePartition, parseBlkid } from './find.ts';
import { announcePartition } from './kernel-partitions.ts';
import { refuseWrite } from './refusals.ts';

/** A data partition that may be written. Disposing detaches the image that holds it. */
export interface LocatedPartition extends AsyncDisposable {
  /** Name of the disk, partition or image for messages. */
  readonly name: string;
  /** Device of the partition. */
  readonly device: string;
  readonly fileSystem: string;
  /** The partition as a device. */
  readonly facts: DiskFacts;
  /** Identity of its disk, which `--expect-serial` is compared with. */
  readonly identity: DiskFacts['identity'];
  /** Path of the image that holds it, if an image does. */
  readonly image: string | undefined;
}

export interface LocateRequest {
  /** A disk, a partition or a disk image. */
  readonly target: string;
  readonly label: string;
  readonly readOnly: boolean;
  readonly act: Act;
}

/** File systems that bundles are written to. */
const WRITABLE: readonly string[] = ['xfs', 'ext4'];

/**
 * Finds the partition with the label on the disk, partition or image that a person names, and checks that it is not in use. Other partitions of the
 * disk may be in use.
 * @throws PrestageError ERR_DISK…, ERR_PARTITION_MISSING, ERR_PARTITION_AMBIGUOUS, ERR_PARTITION_FILESYSTEM
 */
export async function locatePartition(host: Host, request: LocateRequest): Promise<LocatedPartition> {
  await request.act('reclaim-targets', async () => await reclaimTargets(host));
  const disk = await openDisk(host, request.target, request);
  try {
    const found = await partitionOn(host, disk, request);
    const facts = await readDisk(host, { ...disk, name: found.device, device: found.device, image: undefined });
    const [refusal] = refuseWrite(disk.image === undefined ? facts : { ...facts, isReadOnly: false });
    if (refusal !== undefined) throw refusal;
    return { ...found, name: disk.name, facts, image: disk.image, [Symbol.asyncDispose]: async () => await disk[Symbol.asyncDispose]() };
  } catch (error) {
    await disk[Symbol.asyncDispose]();
    throw error;
  }
}

async function partitionOn(host: Host, disk: OpenDisk, { label, act }: LocateRequest) {
  const facts = await readDisk(host, disk);
  if (facts.kind === 'part') return await thePartition(host, facts, { label, act });
  const partitions = facts.partitions.map((partition) => ({ ...partition, sizeBytes: 0 }));
  const chosen = choosePartition(partitions, label);
  if (chosen === undefined) throw missing(disk.name, label, facts.partitions);
  const partition = facts.partitions.find((each) => each.device === chosen.device);
  if (partition !== undefined) await act('announce-partition', async () => await announcePartition(host, facts, partition));
  return { device: chosen.device, fileSystem: writable(chosen.device, chosen.fileSystem), identity: facts.identity };
}

async function thePartition(host: Host, facts: DiskFacts, { label, act }: Pick<LocateRequest, 'label' | 'act'>) {
  const probe = parseBlkid((await host.exec('blkid', ['--probe', '--output', 'export', facts.device])).stdout);
  if (probe.label !== label) throw missing(facts.name, label, [{ device: facts.device, label: probe.label ?? '' }]);
  const parent = (await host.exec('lsblk', ['--nodeps', '--noheadings', '--paths', '--output', 'PKNAME', facts.device])).stdout.trim();
  const { identity } = parent === '' ? facts : await readDisk(host, await openDisk(host, parent, { readOnly: true, act }));
  return { device: facts.device, fileSystem: writable(facts.device, probe.fileSystem), identity };
}

function writable(device: string, fileSystem: string | undefined): string {
  if (fileSystem !== undefined && WRITABLE.includes(fileSystem)) return fileSystem;
  throw new PrestageError(
    'ERR_PARTITION_FILESYSTEM',
    `${device} holds ${fileSystem ?? 'no known file system'}, but a bundle needs ${WRITABLE.join(' or ')}`,
    'Format it: prestage-agent partition create DEVICE --reuse, or --replace to discard its content',
  );
}

function missing(name: string, label: string, partitions: readonly { readonly device: string; readonly label: string }[]): PrestageError {
  const seen = partitions.map((partition) => `"${partition.label}" (${partition.device})`).join(', ');
  return new PrestageError(
    'ERR_PARTITION_MISSING',
    `${name} has no partition with the GPT label "${label}"; labels seen: ${seen || 'none'}`,
    'Create one (prestage-agent partition create), or name another with --label',
  );
}
