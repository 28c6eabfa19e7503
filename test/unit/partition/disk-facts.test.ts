import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseMountInfo } from '../../../agent/host/mount-table.ts';
import { parseDisk, partitionDevice, usesOf } from '../../../agent/partition/disk-facts.ts';
import { codeOf } from '../../support/thrown.ts';

const lsblk = (device: unknown): string => JSON.stringify({ blockdevices: [device] });

test('old and new lsblk say the same in strings and in numbers', () => {
  const node = {
    name: '/dev/sda',
    number: '8:0',
    type: 'disk',
    sizeBytes: 1000,
    sectorBytes: 512,
    isReadOnly: true,
    model: 'M',
    serial: 'S',
    wwn: undefined,
    children: [],
  };
  const common = { name: '/dev/sda', type: 'disk', model: 'M  ', serial: ' S', wwn: null };
  assert.deepEqual(parseDisk(lsblk({ ...common, 'maj:min': '8:0', size: 1000, ro: true, 'log-sec': 512 }), '/dev/sda'), node);
  assert.deepEqual(parseDisk(lsblk({ ...common, 'maj:min': '  8:0  ', size: '1000', ro: '1', 'log-sec': '512' }), '/dev/sda'), node);
});

test('what is not lsblk’s answer about a device is an error of the tool', () => {
  for (const text of ['', '{}', '{"blockdevices":[]}', '{"blockdevices":[{"name":"/dev/sda"}]}'])
    assert.equal(
      codeOf(() => parseDisk(text, '/dev/sda')),
      'ERR_TOOL_FAILED',
    );
});

test('mounts, swap and devices on top are found at any depth, each once', () => {
  const part = (name: string, number: string, children: readonly unknown[] = []) => ({ name, 'maj:min': number, type: 'part', children });
  const root = { name: '/dev/mapper/vg-root', 'maj:min': '253:0', type: 'lvm' };
  const disk = parseDisk(
    lsblk({
      name: '/dev/sda',
      'maj:min': '8:0',
      type: 'disk',
      children: [part('/dev/sda1', '8:1'), part('/dev/sda2', '8:2', [root]), part('/dev/sda3', '8:3')],
    }),
    '/dev/sda',
  );
  const mounts = [
    { id: '30', number: '8:1', target: '/boot', source: '/dev/sda1' },
    { id: '31', number: '253:0', target: '/', source: '/dev/mapper/vg-root' },
    // btrfs has device numbers of its own.
    { id: '32', number: '0:40', target: '/srv', source: '/dev/sda3' },
    { id: '33', number: '8:17', target: '/mnt', source: '/dev/sdb1' },
  ];
  assert.deepEqual(usesOf(disk, mounts, 'Filename Type Size\n/dev/sda3 partition 1 0 -2\n'), [
    { device: '/dev/sda1', kind: 'mount', at: '/boot' },
    { device: '/dev/sda2', kind: 'holder', at: '/dev/mapper/vg-root' },
    { device: '/dev/mapper/vg-root', kind: 'mount', at: '/' },
    { device: '/dev/sda3', kind: 'mount', at: '/srv' },
    { device: '/dev/sda3', kind: 'swap', at: 'swap' },
  ]);
});

test('the table of mounts is read with its escapes and its optional fields', () => {
  const text = [
    '36 35 98:0 /mnt1 /mnt/with\\040blank rw,noatime master:1 shared:2 - ext3 /dev/root\\0401 rw,errors=continue',
    '37 35 0:5 / /dev rw - devtmpfs devtmpfs rw',
    '',
  ].join('\n');
  assert.deepEqual(parseMountInfo(text), [
    { id: '36', number: '98:0', target: '/mnt/with blank', source: '/dev/root 1' },
    { id: '37', number: '0:5', target: '/dev', source: 'devtmpfs' },
  ]);
});

test('a disk whose name ends in a digit gets a p before the number', () => {
  assert.deepEqual(
    ['/dev/sda', '/dev/nvme0n1', '/dev/loop7', '/dev/vdb'].map((disk) => partitionDevice(disk, 5)),
    ['/dev/sda5', '/dev/nvme0n1p5', '/dev/loop7p5', '/dev/vdb5'],
  );
});

test('law: any text ends in a table or in an error of the tool', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.ok([undefined, 'ERR_TOOL_FAILED'].includes(codeOf(() => parseDisk(text, '/dev/sda'))));
      assert.ok(Array.isArray(parseMountInfo(text)));
    }),
  );
});
