import { PrestageError } from '../model/errors.ts';
import type { DiskFacts, DiskUse } from './disk-facts.ts';

/** What a running system lies on. */
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

/** Why a disk may not get another partition: every reason, the gravest first; empty where it may. Pure. */
export function refuseCreate(disk: DiskFacts): readonly PrestageError[] {
  if (disk.kind !== 'disk' && disk.kind !== 'loop' && disk.kind !== 'image')
    return [
      new PrestageError(
        'ERR_DISK',
        `${disk.name} is no whole disk, lsblk calls it "${disk.kind}"`,
        'Give the whole disk, such as /dev/sda or /dev/nvme0n1',
      ),
    ];
  if (disk.sizeBytes === 0)
    return [new PrestageError('ERR_DISK', `${disk.name} has no medium`, 'Give a disk that lsblk shows with a size')];
  return [...refuseWrite(disk), ...refuseTable(disk)];
}

/** Why nothing may be written to a disk or a partition. Pure. */
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
      `${disk.name} holds the system that runs: ${places}`,
      'Choose another disk, or start the machine from other media',
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
      `${disk.name} is in use: the kernel refuses exclusive access, and no mount, swap or device of this system explains it`,
      'Look for containers and other mount namespaces that have it mounted: grep DEVICE /proc/*/mountinfo',
    ),
  ];
}

/** A use in words: `/dev/sda3 is mounted at /mnt`. */
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
      return `Take it out: swapoff ${use.device}`;
    case 'holder':
      return `Stop ${use.at} (vgchange -an, mdadm --stop, cryptsetup close, multipath -f), or choose another disk`;
  }
}

function refuseReadOnly(disk: DiskFacts): readonly PrestageError[] {
  if (!disk.isReadOnly) return [];
  const remedy =
    disk.kind === 'image'
      ? `Make the file writable: chmod u+w ${disk.name}`
      : `Take the write protection away: a switch, or blockdev --setrw ${disk.device}`;
  return [new PrestageError('ERR_DISK_READ_ONLY', `${disk.name} is read-only`, remedy)];
}

function refuseTable(disk: DiskFacts): readonly PrestageError[] {
  const refuse = (message: string, remedy: string): readonly PrestageError[] => [new PrestageError('ERR_DISK_TABLE', message, remedy)];
  if (disk.table === 'dos')
    return refuse(
      `${disk.name} has an MBR partition table, a GPT is needed`,
      `Convert it (sgdisk --mbrtogpt ${disk.name}), or wipe the disk if nothing on it is needed (wipefs --all ${disk.name})`,
    );
  if (disk.table !== 'gpt' && disk.table !== 'none')
    return refuse(
      `${disk.name} has a partition table of the kind "${disk.table}", a GPT is needed`,
      `Wipe the disk if nothing on it is needed: wipefs --all ${disk.name}`,
    );
  if (disk.content !== undefined)
    return refuse(
      `${disk.name} holds ${disk.content} as a whole, not a GPT alone`,
      `Wipe the disk if nothing on it is needed: wipefs --all ${disk.name}`,
    );
  if (disk.damage !== undefined)
    return refuse(
      `the GPT of ${disk.name} is damaged, and the disk is not blank: ${disk.damage}`,
      `Repair it (gdisk ${disk.name}, then r), or if nothing on the disk is needed wipe both of its ends: sgdisk --zap-all ${disk.name}`,
    );
  return [];
}
