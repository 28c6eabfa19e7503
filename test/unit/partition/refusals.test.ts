import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorRecord } from '../../../agent/model/errors.ts';
import type { DiskFacts } from '../../../agent/partition/disk-facts.ts';
import { refuseCreate } from '../../../agent/partition/refusals.ts';
import { diskFacts } from '../../support/disk-facts.ts';

const refusals = (change: Partial<DiskFacts>) => refuseCreate(diskFacts(change)).map(errorRecord);

test('a disk that nobody uses is not refused, nor is an image or a loop device', () => {
  assert.deepEqual(refusals({}), []);
  assert.deepEqual(refusals({ kind: 'image', table: 'none' }), []);
  assert.deepEqual(refusals({ kind: 'loop' }), []);
});

for (const { title, change, error } of [
  {
    title: 'a partition',
    change: { kind: 'part', name: '/dev/sda3' },
    error: {
      code: 'ERR_DISK',
      message: '/dev/sda3 is not a whole disk: lsblk reports type "part"',
      remedy: 'Name the whole disk, such as /dev/sda or /dev/nvme0n1',
    },
  },
  {
    title: 'a drive without a medium',
    change: { sizeBytes: 0 },
    error: { code: 'ERR_DISK', message: '/dev/sda has no medium', remedy: 'Name a disk that lsblk shows with a size' },
  },
  {
    title: 'the disk of the system',
    change: {
      isClaimed: true,
      uses: [
        { device: '/dev/sda4', kind: 'mount', at: '/sysroot' },
        { device: '/dev/sda3', kind: 'mount', at: '/boot' },
      ],
    },
    error: {
      code: 'ERR_DISK_SYSTEM',
      message: '/dev/sda holds the running system: /sysroot (/dev/sda4), /boot (/dev/sda3)',
      remedy: 'Choose another disk, or boot the machine from other media',
    },
  },
  {
    title: 'a mounted partition',
    change: { isClaimed: true, uses: [{ device: '/dev/sda5', kind: 'mount', at: '/mnt' }] },
    error: { code: 'ERR_DISK_BUSY', message: '/dev/sda is in use: /dev/sda5 is mounted at /mnt', remedy: 'Unmount it: umount /mnt' },
  },
  {
    title: 'swap space',
    change: { isClaimed: true, uses: [{ device: '/dev/sda5', kind: 'swap', at: 'swap' }] },
    error: { code: 'ERR_DISK_BUSY', message: '/dev/sda is in use: /dev/sda5 is swap space', remedy: 'Turn it off: swapoff /dev/sda5' },
  },
  {
    title: 'a disk below LVM, RAID or dm-crypt',
    change: { isClaimed: true, uses: [{ device: '/dev/sda5', kind: 'holder', at: '/dev/mapper/vg-root' }] },
    error: {
      code: 'ERR_DISK_BUSY',
      message: '/dev/sda is in use: /dev/sda5 is part of /dev/mapper/vg-root',
      remedy: 'Stop /dev/mapper/vg-root (vgchange -an, mdadm --stop, cryptsetup close, multipath -f), or choose another disk',
    },
  },
  {
    title: 'a disk that something unseen has claimed',
    change: { isClaimed: true },
    error: {
      code: 'ERR_DISK_BUSY',
      message: '/dev/sda is in use: the kernel refuses exclusive access, but no mount, swap or device of this system explains why',
      remedy: 'Find containers or other mount namespaces that have it mounted: grep DEVICE /proc/*/mountinfo',
    },
  },
  {
    title: 'a read-only disk',
    change: { isReadOnly: true },
    error: {
      code: 'ERR_DISK_READ_ONLY',
      message: '/dev/sda is read-only',
      remedy: 'Remove the write protection: by its switch, or with blockdev --setrw /dev/sda',
    },
  },
  {
    title: 'an image that cannot be written',
    change: { isReadOnly: true, kind: 'image', name: '/a.img' },
    error: { code: 'ERR_DISK_READ_ONLY', message: '/a.img is read-only', remedy: 'Make the file writable: chmod u+w /a.img' },
  },
  {
    title: 'an MBR disk',
    change: { table: 'dos' },
    error: {
      code: 'ERR_DISK_TABLE',
      message: '/dev/sda has an MBR partition table, but a GPT is needed',
      remedy: 'Convert it (sgdisk --mbrtogpt /dev/sda), or wipe the disk if you do not need its content (wipefs --all /dev/sda)',
    },
  },
  {
    title: 'another kind of table',
    change: { table: 'sun' },
    error: {
      code: 'ERR_DISK_TABLE',
      message: '/dev/sda has a partition table of type "sun", but a GPT is needed',
      remedy: 'Wipe the disk if you do not need its content: wipefs --all /dev/sda',
    },
  },
  {
    title: 'a file system over the whole disk',
    change: { table: 'none', content: 'xfs' },
    error: {
      code: 'ERR_DISK_TABLE',
      message: '/dev/sda as a whole holds xfs, but only a GPT may be there',
      remedy: 'Wipe the disk if you do not need its content: wipefs --all /dev/sda',
    },
  },
  {
    title: 'a damaged GPT',
    change: { damage: 'start of the disk: no table; end of the disk: a table with 1 partition' },
    error: {
      code: 'ERR_DISK_TABLE',
      message: '/dev/sda is not blank and its GPT is damaged: start of the disk: no table; end of the disk: a table with 1 partition',
      remedy: 'Repair it (gdisk /dev/sda, then r), or wipe both ends if you do not need the content: sgdisk --zap-all /dev/sda',
    },
  },
] satisfies readonly { title: string; change: Partial<DiskFacts>; error: unknown }[]) {
  test(`refused: ${title}`, () => assert.deepEqual(refusals(change), [error]));
}

test('all reasons are told, the gravest first', () => {
  const uses = [
    { device: '/dev/sda5', kind: 'mount', at: '/mnt' },
    { device: '/dev/sda4', kind: 'mount', at: '/' },
  ] as const;
  assert.deepEqual(
    refusals({ uses, isClaimed: true, isReadOnly: true, table: 'dos' }).map((error) => error.code),
    ['ERR_DISK_SYSTEM', 'ERR_DISK_BUSY', 'ERR_DISK_READ_ONLY', 'ERR_DISK_TABLE'],
  );
});
