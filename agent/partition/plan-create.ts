import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { type DiskFacts, type DiskPartition, partitionDevice } from './disk-facts.ts';

export interface CreateRequest {
  readonly label: string;
  /** At the end of the disk; or from `startSector` on, where that is given. */
  readonly sizeBytes: number | undefined;
  /** First sector; without a size the partition goes to the end of the disk. */
  readonly startSector: number | undefined;
  /** What becomes of a partition of the label: an error, or it stays with what it holds, or it goes. */
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
  /** As it will be. */
  readonly partition: DiskPartition;
  readonly steps: readonly CreateStep[];
  /** What a person should know before it is done. */
  readonly notices: readonly string[];
}

/** RHCOS has the numbers 1 to 4; the installer renumbers what stands in its way. */
const FIRST_NUMBER = 5;
const ALIGNMENT_BYTES = 1024 * 1024;
/** mkfs.xfs(8) makes nothing smaller. */
const MINIMUM_BYTES = 300 * 1024 * 1024;
/** What OpenShift's installer demands of an installation disk. */
const INSTALLATION_BYTES = 120_000_000_000;
/** GPT names have 36 UTF-16 units; what a launcher can carry is narrower still. Source: UEFI 2.10, 5.3.3. */
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,35}$/;

/**
 * Decides what has to be done to a disk for a data partition at its end. Pure: nothing here has looked whether the disk may be touched
 * (refusals.ts).
 * @throws PrestageError ERR_USAGE, ERR_PARTITION_EXISTS, ERR_PARTITION_AMBIGUOUS, ERR_PARTITION_FILESYSTEM, ERR_DISK_ROOM
 */
export function planCreate(disk: DiskFacts, request: CreateRequest): CreatePlan {
  if (!LABEL.test(request.label))
    throw new PrestageError(
      'ERR_USAGE',
      `"${request.label}" cannot be a label`,
      'Give up to 36 letters, digits, dots, hyphens and underscores',
    );
  const [existing, ...others] = disk.partitions.filter((partition) => partition.label === request.label);
  if (others.length > 0) throw ambiguous(disk, request.label);
  if (existing === undefined) return planNew(disk, request, undefined);
  if (request.existing === 'replace') return planNew(disk, request, existing);
  if (request.existing === 'reuse' || isUnfinished(disk, existing, request)) return planReuse(disk, existing);
  throw exists(disk, existing);
}

/** What the same command leaves that is ended between table and file system: the very partition, with nothing in it. */
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
      `${partition.device} (label "${partition.label}") holds ${partition.fileSystem}, which no bundle can be written to`,
      'Give --replace to lose what it holds',
    );
  }
  return { disk, partition, steps: [], notices: [`${partition.device} stays as it is, with what it holds`] };
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
    // Aligned downwards: the partition has the size asked for, or a little more.
    const alignment = ALIGNMENT_BYTES / disk.sectorBytes;
    const start = Math.floor((disk.lastUsableSector - sectors + 1) / alignment) * alignment;
    return { startSector: start, endSector: disk.lastUsableSector };
  }
  if (replaced !== undefined) return { startSector: replaced.startSector, endSector: replaced.endSector };
  throw new PrestageError(
    'ERR_USAGE',
    'the size of the partition is not known',
    'Give --size (100GiB holds a release, 250GiB one with operators), or --start-sector',
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
      : [`only ${formatBytes(frontBytes)} lie in front of it: OpenShift is not installed on a disk that leaves less than 120 GB`]),
    ...(isAligned ? [] : [`sector ${partition.startSector} is not at a multiple of 1 MiB: the disk can be slower`]),
  ];
}

function placeOf({ startSector, endSector }: DiskPartition): string {
  return `(sectors ${startSector} to ${endSector})`;
}

function describeShort(partition: DiskPartition): string {
  return `partition ${partition.number} "${partition.label}" ${placeOf(partition)}`;
}

function noRoom(message: string): PrestageError {
  return new PrestageError('ERR_DISK_ROOM', message, 'Give another --size or --start-sector, remove a partition, or take a larger disk');
}

function exists(disk: DiskFacts, partition: DiskPartition): PrestageError {
  return new PrestageError(
    'ERR_PARTITION_EXISTS',
    `${disk.name} has ${describeShort(partition)} already`,
    'Write to it as it is (prestage-agent partition write), or give --reuse to keep what it holds, --replace to lose it',
  );
}

function ambiguous(disk: DiskFacts, label: string): PrestageError {
  const found = disk.partitions.filter((partition) => partition.label === label).map(describeShort);
  return new PrestageError(
    'ERR_PARTITION_AMBIGUOUS',
    `${disk.name} has ${found.length} partitions with the label "${label}": ${found.join(', ')}`,
    'Give the one that is not meant another label: sgdisk --change-name N:other DISK',
  );
}
