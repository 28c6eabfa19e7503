import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { type DiskFacts, type DiskPartition, partitionDevice } from './disk-facts.ts';

export interface CreateRequest {
  readonly label: string;
  /** Placed at the end of the disk, or at `startSector` if that is given. */
  readonly sizeBytes: number | undefined;
  /** First sector; without a size the partition extends to the end of the disk. */
  readonly startSector: number | undefined;
  /** What to do with an existing partition of the label: fail, keep it with its content, or replace it. */
  readonly existing: 'refuse' | 'reuse' | 'replace';
}

/** One change to the disk. */
export type CreateStep =
  | { readonly kind: 'new-table' }
  | { readonly kind: 'move-second-table' }
  | { readonly kind: 'delete-partition'; readonly partition: DiskPartition }
  | { readonly kind: 'add-partition'; readonly partition: DiskPartition }
  | { readonly kind: 'format'; readonly partition: DiskPartition };

export interface CreatePlan {
  readonly disk: DiskFacts;
  /** The partition as it will be. */
  readonly partition: DiskPartition;
  readonly steps: readonly CreateStep[];
  /** Warnings shown before anything is changed. */
  readonly notices: readonly string[];
}

/** RHCOS uses the numbers 1 to 4; its installer renumbers a partition that conflicts. */
const FIRST_NUMBER = 5;
const ALIGNMENT_BYTES = 1024 * 1024;
/** Smallest file system that mkfs.xfs(8) makes. */
const MINIMUM_BYTES = 300 * 1024 * 1024;
/** Smallest installation disk that OpenShift's installer accepts. */
const INSTALLATION_BYTES = 120_000_000_000;
/** GPT names have up to 36 UTF-16 units; the launcher supports only this subset. Source: UEFI 2.10, 5.3.3. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,35}$/;

/**
 * Decides the changes to a disk for a data partition at its end. Pure. Does not check whether the disk may be changed; refusals.ts does.
 * @throws PrestageError ERR_USAGE, ERR_PARTITION_EXISTS, ERR_PARTITION_AMBIGUOUS, ERR_PARTITION_FILESYSTEM, ERR_DISK_ROOM
 */
export function planCreate(disk: DiskFacts, request: CreateRequest): CreatePlan {
  if (!LABEL.test(request.label))
    throw new PrestageError(
      'ERR_USAGE',
      `"${request.label}" is not a valid label`,
      'Use up to 36 letters, digits, dots, hyphens and underscores',
    );
  const [existing, ...others] = disk.partitions.filter((partition) => partition.label === request.label);
  if (others.length > 0) throw ambiguous(disk, request.label);
  if (existing === undefined) return planNew(disk, request, undefined);
  if (request.existing === 'replace') return planNew(disk, request, existing);
  if (request.existing === 'reuse' || isUnfinished(disk, existing, request)) return planReuse(disk, existing);
  throw exists(disk, existing);
}

/** True if the same command was interrupted between table and file system: the wanted partition exists and is empty. */
function isUnfinished(disk: DiskFacts, partition: DiskPartition, request: CreateRequest): boolean {
  if (partition.fileSystem !== undefined || (request.sizeBytes === undefined && request.startSector === undefined)) return false;
  const range = rangeFor(disk, request, undefined);
  return range.startSector === partition.startSector && range.endSector === partition.endSector;
}

function planReuse(disk: DiskFacts, partition: DiskPartition): CreatePlan {
  if (partition.fileSystem === undefined)
    return { disk, partition: { ...partition, fileSystem: 'xfs' }, steps: [{ kind: 'format', partition }], notices: [] };
  if (partition.fileSystem !== 'xfs' && partition.fileSystem !== 'ext4') {
    throw new PrestageError(
      'ERR_PARTITION_FILESYSTEM',
      `${partition.device} (label "${partition.label}") holds ${partition.fileSystem}, which the agent cannot write a bundle to`,
      'Use --replace to discard its content',
    );
  }
  return { disk, partition, steps: [], notices: [`${partition.device} and its content are kept`] };
}

function planNew(disk: DiskFacts, request: CreateRequest, replaced: DiskPartition | undefined): CreatePlan {
  const kept = disk.partitions.filter((partition) => partition !== replaced);
  const range = rangeFor(disk, request, replaced);
  const partition: DiskPartition = { ...range, ...newNames(disk, request.label, kept, replaced), fileSystem: 'xfs' };
  checkRoom(disk, partition, kept, request);
  const steps: readonly CreateStep[] = [
    ...(disk.table === 'none' ? [{ kind: 'new-table' } as const] : []),
    ...(disk.isGrown ? [{ kind: 'move-second-table' } as const] : []),
    ...(replaced === undefined ? [] : [{ kind: 'delete-partition', partition: replaced } as const]),
    { kind: 'add-partition', partition },
    { kind: 'format', partition },
  ];
  return { disk, partition, steps, notices: noticesFor(disk, partition) };
}

function newNames(disk: DiskFacts, label: string, kept: readonly DiskPartition[], replaced: DiskPartition | undefined) {
  const number = replaced?.number ?? Math.max(FIRST_NUMBER - 1, ...kept.map((partition) => partition.number)) + 1;
  return { number, device: partitionDevice(disk.device, number), label };
}

function rangeFor(disk: DiskFacts, request: CreateRequest, replaced: DiskPartition | undefined) {
  const { sizeBytes, startSector } = request;
  const sectors = sizeBytes === undefined ? undefined : Math.ceil(sizeBytes / disk.sectorBytes);
  if (startSector !== undefined)
    return { startSector, endSector: sectors === undefined ? disk.lastUsableSector : startSector + sectors - 1 };
  if (sectors !== undefined) {
    // Aligned downwards: the partition gets the requested size or slightly more.
    const alignment = ALIGNMENT_BYTES / disk.sectorBytes;
    const start = Math.floor((disk.lastUsableSector - sectors + 1) / alignment) * alignment;
    return { startSector: start, endSector: disk.lastUsableSector };
  }
  if (replaced !== undefined) return { startSector: replaced.startSector, endSector: replaced.endSector };
  throw new PrestageError(
    'ERR_USAGE',
    'the size of the partition is missing',
    'Set --size (100GiB for a release, 250GiB with operators), or --start-sector',
  );
}

function checkRoom(disk: DiskFacts, wanted: DiskPartition, kept: readonly DiskPartition[], request: CreateRequest): void {
  const bytes = (wanted.endSector - wanted.startSector + 1) * disk.sectorBytes;
  const firstUsable = disk.sectorBytes === 512 ? 34 : 6;
  if (wanted.startSector < firstUsable || wanted.endSector > disk.lastUsableSector) {
    const has = `${disk.name} has ${formatBytes(disk.sizeBytes)}, its last usable sector is ${disk.lastUsableSector}`;
    throw noRoom(
      `${has}; a partition of ${formatBytes(bytes)}${request.startSector === undefined ? '' : ` ${placeOf(wanted)}`} does not fit`,
    );
  }
  if (bytes < MINIMUM_BYTES)
    throw noRoom(`a partition of ${formatBytes(bytes)} is too small for XFS, which needs ${formatBytes(MINIMUM_BYTES)}`);
  const overlapped = kept.find((partition) => partition.startSector <= wanted.endSector && wanted.startSector <= partition.endSector);
  if (overlapped === undefined) return;
  const free = Math.max(0, disk.lastUsableSector - Math.max(...kept.map((partition) => partition.endSector))) * disk.sectorBytes;
  throw noRoom(
    `${disk.name} has ${formatBytes(free)} free at its end; a partition of ${formatBytes(bytes)} ${placeOf(wanted)} would overlap ${describeShort(overlapped)}`,
  );
}

function noticesFor(disk: DiskFacts, partition: DiskPartition): readonly string[] {
  const frontBytes = partition.startSector * disk.sectorBytes;
  const isAligned = frontBytes % ALIGNMENT_BYTES === 0;
  return [
    ...(frontBytes >= INSTALLATION_BYTES
      ? []
      : [`only ${formatBytes(frontBytes)} precede the partition: OpenShift needs at least 120 GB to install on this disk`]),
    ...(isAligned ? [] : [`sector ${partition.startSector} is not aligned to 1 MiB: the disk may be slower`]),
  ];
}

function placeOf({ startSector, endSector }: DiskPartition): string {
  return `(sectors ${startSector} to ${endSector})`;
}

function describeShort(partition: DiskPartition): string {
  return `partition ${partition.number} "${partition.label}" ${placeOf(partition)}`;
}

function noRoom(message: string): PrestageError {
  return new PrestageError('ERR_DISK_ROOM', message, 'Set another --size or --start-sector, remove a partition, or use a larger disk');
}

function exists(disk: DiskFacts, partition: DiskPartition): PrestageError {
  return new PrestageError(
    'ERR_PARTITION_EXISTS',
    `${disk.name} already has ${describeShort(partition)}`,
    'Write to it (prestage-agent partition write), or use --reuse to keep its content or --replace to discard it',
  );
}

function ambiguous(disk: DiskFacts, label: string): PrestageError {
  const found = disk.partitions.filter((partition) => partition.label === label).map(describeShort);
  return new PrestageError(
    'ERR_PARTITION_AMBIGUOUS',
    `${disk.name} has ${found.length} partitions with the label "${label}": ${found.join(', ')}`,
    'Relabel the wrong partition: sgdisk --change-name N:other DISK',
  );
}
