import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BlockPartition, choosePartition, parseBlkid, parseLsblk, udevName } from '../../../agent/partition/find.ts';
import { codeOf, thrownBy } from '../../support/thrown.ts';

const part = (device: string, label?: string, fileSystem?: string): BlockPartition => ({ device, sizeBytes: 5, label, fileSystem });
const lsblk = (...blockdevices: readonly unknown[]): string => JSON.stringify({ blockdevices });

test('partitions are found at any depth of lsblk’s tree, loop devices like disks', () => {
  const json = lsblk(
    {
      name: '/dev/sda',
      type: 'disk',
      size: 10,
      children: [{ name: '/dev/sda1', type: 'part', size: 5, partlabel: 'data', fstype: 'xfs' }],
    },
    { name: '/dev/loop0', type: 'loop', children: [{ name: '/dev/loop0p1', type: 'part', size: '5', partlabel: null, fstype: null }] },
    { name: '/dev/sr0', type: 'rom' },
  );
  assert.deepEqual(parseLsblk(json), [part('/dev/sda1', 'data', 'xfs'), part('/dev/loop0p1')]);
});

test('a partition without a size, as old lsblk gives it, is still one', () => {
  assert.deepEqual(parseLsblk(lsblk({ name: '/dev/sda1', type: 'part' })), [{ ...part('/dev/sda1'), sizeBytes: 0 }]);
});

test('the paths of a multipath disk do not make its partition ambiguous', () => {
  const viaMultipath = {
    name: '/dev/mapper/mpatha',
    type: 'mpath',
    children: [{ name: '/dev/mapper/mpatha1', type: 'part', size: 5, partlabel: 'data', fstype: 'xfs' }],
  };
  const path = (disk: string) => ({
    name: disk,
    type: 'disk',
    children: [{ name: `${disk}1`, type: 'part', size: 5, partlabel: 'data', fstype: 'xfs' }, viaMultipath],
  });
  assert.deepEqual(parseLsblk(lsblk(path('/dev/sda'), path('/dev/sdb'))), [part('/dev/mapper/mpatha1', 'data', 'xfs')]);
});

test('virtual media are found by their volume label: a drive, a disk or a loop device with ISO 9660 as a whole', () => {
  const json = lsblk(
    { name: '/dev/sr0', type: 'rom', size: 5, fstype: 'iso9660', label: 'data' },
    { name: '/dev/sdb', type: 'disk', size: 5, fstype: 'iso9660', label: 'other' },
    { name: '/dev/loop0', type: 'loop', size: 5, fstype: 'iso9660', label: 'data' },
  );
  assert.deepEqual(parseLsblk(json), [
    part('/dev/sr0', 'data', 'iso9660'),
    part('/dev/sdb', 'other', 'iso9660'),
    part('/dev/loop0', 'data', 'iso9660'),
  ]);
});

test('a disk without partitions is a candidate where lsblk does not know what it holds, and none where it holds something else or nothing', () => {
  const json = lsblk(
    { name: '/dev/sdb', type: 'disk', size: 5, fstype: null },
    { name: '/dev/sdc', type: 'disk', size: 5, fstype: 'xfs', label: 'data' },
    { name: '/dev/sr0', type: 'rom', size: 0 },
    { name: '/dev/mapper/a', type: 'crypt', size: 5, fstype: 'iso9660', label: 'data' },
    { name: '/dev/sdd', type: 'disk', size: 5, fstype: 'iso9660', label: 'data', children: [{ name: '/dev/sdd1', type: 'part', size: 5 }] },
  );
  assert.deepEqual(parseLsblk(json), [part('/dev/sdb'), part('/dev/sdd1')]);
});

test('the label of a file system counts for ISO 9660 on a whole disk alone', () => {
  assert.deepEqual(parseBlkid('TYPE=iso9660\nLABEL=my\\ data\n'), { label: 'my data', fileSystem: 'iso9660' });
  assert.deepEqual(parseBlkid('TYPE=xfs\nLABEL=data\n'), { label: undefined, fileSystem: 'xfs' });
  assert.deepEqual(parseBlkid('TYPE=iso9660\nLABEL=data\nPART_ENTRY_SCHEME=gpt\n'), { label: undefined, fileSystem: 'iso9660' });
  assert.deepEqual(parseBlkid('TYPE=iso9660\nLABEL=data\nPART_ENTRY_NAME=own\n'), { label: 'own', fileSystem: 'iso9660' });
});

test('an answer of lsblk that is not its JSON is an error of the tool', () => {
  assert.equal(
    codeOf(() => parseLsblk('lsblk: not found')),
    'ERR_TOOL_FAILED',
  );
  assert.equal(
    codeOf(() => parseLsblk('{"blockdevices":[{"name":1}]}')),
    'ERR_TOOL_FAILED',
  );
});

test('blkid names the partition label and the file system, with its escapes taken off', () => {
  assert.deepEqual(parseBlkid('DEVNAME=/dev/loop0p2\nTYPE=xfs\nPART_ENTRY_NAME=my\\ data\n'), { label: 'my data', fileSystem: 'xfs' });
  assert.deepEqual(parseBlkid(''), { label: undefined, fileSystem: undefined });
});

test('udev’s link names keep letters and escape the rest', () => {
  assert.equal(udevName('data'), 'data');
  assert.equal(udevName('my data/x'), 'my\\x20data\\x2fx');
  assert.equal(udevName('größe'), 'größe');
});

test('the one partition of a label is taken', () => {
  assert.deepEqual(
    choosePartition([part('/dev/a', 'other', 'xfs'), part('/dev/b', 'data', 'ext4')], 'data'),
    part('/dev/b', 'data', 'ext4'),
  );
});

test('no partition of a label is no answer yet', () => {
  assert.equal(choosePartition([part('/dev/a', 'data2')], 'data'), undefined);
});

test('two partitions of one label are refused with both names', () => {
  assert.deepEqual(
    thrownBy(() => choosePartition([part('/dev/a1', 'data', 'xfs'), part('/dev/b1', 'data', 'xfs')], 'data')),
    {
      code: 'ERR_PARTITION_AMBIGUOUS',
      message: '2 partitions have the label "data": /dev/a1, /dev/b1',
      remedy: 'Detach the wrong disk, or relabel the wrong partition: sgdisk --change-name N:other DISK',
    },
  );
});

test('a partition with another file system, or with none, is refused', () => {
  const message = (fileSystem?: string) => thrownBy(() => choosePartition([part('/dev/a1', 'data', fileSystem)], 'data')).message;
  assert.equal(message('vfat'), '/dev/a1 (label "data") holds vfat, expected one of xfs, ext4, iso9660');
  assert.equal(message(), '/dev/a1 (label "data") holds no known file system, expected one of xfs, ext4, iso9660');
});

test('law: an udev name has no slash, no space and no control character', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (label) => {
      assert.ok(Array.from(udevName(label)).every((character) => character > ' ' && character !== '/'));
    }),
  );
});
