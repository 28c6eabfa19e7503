import { PrestageError } from '../model/errors.ts';
import type { DiskFacts, DiskUse } from './disk-facts.ts';

/** Mount points of a running system. */
const SYSTEM_MOUNTS: ReadonlySet<string> = new Set([
  '/',
  '/boot',
  '/boot/efi',
  '/efi',
  '/sysroot',
  '/usr',
  '/var',
  '/etc',
  '/home',
  '/run/ostree-live',
]);

/** All reasons why a disk may not get another partition, the most serious first; empty if it may. Pure. */
export function refuseCreate(disk: DiskFacts): readonly PrestageError[] {
  if (disk.kind !== 'disk' && disk.kind !== 'loop' && disk.kind !== 'image')
    return [
      new PrestageError(
        'ERR_DISK',
        `${disk.name} is not a whole disk: lsblk reports type "${disk.kind}"`,
        'Name the whole disk, such as /dev/sda or /dev/nvme0n1',
      ),
    ];
  if (disk.sizeBytes === 0)
    return [new PrestageError('ERR_DISK', `${disk.name} has no medium`, 'Name a disk that lsblk shows with a size')];
  return [...refuseWrite(disk), ...refuseTable(disk)];
}

/** All reasons why nothing may be written to a disk or a partition. Pure. */
export function refuseWrite(disk: DiskFacts): readonly PrestageError[] {
  return [...refuseSystem(disk), ...refuseUse(disk), ...refuseReadOnly(disk)];
}

function refuseSystem(disk: DiskFacts): readonly PrestageError[] {
  const found = disk.uses.filter((use) => use.kind === 'mount' && SYSTEM_MOUNTS.has(use.at));
  if (found.length === 0) return [];
  const places = found.map((use) => `${use.at} (${use.device})`).join(', ');
  return [
    new PrestageError(
      'ERR_DISK_SYSTEM',
      `${disk.name} holds the running system: ${places}`,
      'Choose another disk, or boot the machine from other media',
    ),
  ];
}

function refuseUse(disk: DiskFacts): readonly PrestageError[] {
  const found = disk.uses.filter((use) => use.kind !== 'mount' || !SYSTEM_MOUNTS.has(use.at));
  const errors = found.map((use) => new PrestageError('ERR_DISK_BUSY', `${disk.name} is in use: ${describeUse(use)}`, remedyFor(use)));
  if (disk.uses.length > 0 || !disk.isClaimed) return errors;
  return [
    new PrestageError(
      'ERR_DISK_BUSY',
      `${disk.name} is in use: the kernel refuses exclusive access, but no mount, swap or device of this system explains why`,
      'Find containers or other mount namespaces that have it mounted: grep DEVICE /proc/*/mountinfo',
    ),
  ];
}

/** Describes a use for people: `/dev/sda3 is mounted at /mnt`. */
function describeUse(use: DiskUse): string {
  switch (use.kind) {
    case 'mount':
      return `${use.device} is mounted at ${use.at}`;
    case 'swap':
      return `${use.device} is swap space`;
    case 'holder':
      return `${use.device} is part of ${use.at}`;
  }
}

function remedyFor(use: DiskUse): string {
  switch (use.kind) {
    case 'mount':
      return `Unmount it: umount ${use.at}`;
    case 'swap':
      return `Turn it off: swapoff ${use.device}`;
    case 'holder':
      return `Stop ${use.at} (vgchange -an, mdadm --stop, cryptsetup close, multipath -f), or choose another disk`;
  }
}

function refuseReadOnly(disk: DiskFacts): readonly PrestageError[] {
  if (!disk.isReadOnly) return [];
  const remedy =
    disk.kind === 'image'
      ? `Make the file writable: chmod u+w ${disk.name}`
      : `Remove the write protection: by its switch, or with blockdev --setrw ${disk.device}`;
  return [new PrestageError('ERR_DISK_READ_ONLY', `${disk.name} is read-only`, remedy)];
}

function refuseTable(disk: DiskFacts): readonly PrestageError[] {
  const refuse = (message: string, remedy: string): readonly PrestageError[] => [new PrestageError('ERR_DISK_TABLE', message, remedy)];
  if (disk.table === 'dos')
    return refuse(
      `${disk.name} has an MBR partition table, but a GPT is needed`,
      `Convert it (sgdisk --mbrtogpt ${disk.name}), or wipe the disk if you do not need its content (wipefs --all ${disk.name})`,
    );
  if (disk.table !== 'gpt' && disk.table !== 'none')
    return refuse(
      `${disk.name} has a partition table of type "${disk.table}", but a GPT is needed`,
      `Wipe the disk if you do not need its content: wipefs --all ${disk.name}`,
    );
  if (disk.content !== undefined)
    return refuse(
      `${disk.name} as a whole holds ${disk.content}, but only a GPT may be there`,
      `Wipe the disk if you do not need its content: wipefs --all ${disk.name}`,
    );
  if (disk.damage !== undefined)
    return refuse(
      `${disk.name} is not blank and its GPT is damaged: ${disk.damage}`,
      `Repair it (gdisk ${disk.name}, then r), or wipe both ends if you do not need the content: sgdisk --zap-all ${disk.name}`,
    );
  return [];
}
