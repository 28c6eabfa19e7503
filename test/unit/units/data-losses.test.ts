import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type IgnitionConfig, parseConfig } from '../../../agent/units/config.ts';
import { dataLosses } from '../../../agent/units/data-losses.ts';

const config = (storage?: unknown): IgnitionConfig =>
  parseConfig(JSON.stringify({ ignition: { version: '3.2.0' }, ...(storage !== undefined && { storage }) }), 'mine.ign');
const losses = (storage?: unknown, label = 'data') =>
  dataLosses(config(storage), label).map(({ kind, path, message }) => `${kind} ${path}: ${message}`);
const WHAT = 'the data partition "data"';

test('an override that leaves the data partition alone has no fault', () => {
  assert.deepEqual(losses(), []);
  assert.deepEqual(
    losses({
      disks: [
        {
          device: '/dev/sda',
          partitions: [
            { label: 'data', number: 5 },
            { label: 'var', number: 6, wipePartitionEntry: false },
          ],
        },
        { device: '/dev/sdb', wipeTable: false, partitions: [{ label: 'logs', shouldExist: false }, { wipePartitionEntry: true }] },
        { device: '/dev/sdc' },
      ],
      raid: [{ name: 'md', devices: ['/dev/sdb1'] }, { name: 'none' }],
      luks: [{ name: 'a', device: '/dev/sdb2' }, { name: 'b' }, { name: 'c', device: null }],
      filesystems: [{ device: '/dev/disk/by-partlabel/var', format: 'xfs', wipeFilesystem: true }],
    }),
    [],
  );
});

test('what makes the data partition or its table anew is refused by its path', () => {
  const partitions = [
    { label: 'data', number: 5, wipePartitionEntry: true },
    { label: 'data', shouldExist: false },
  ];
  assert.deepEqual(losses({ disks: [{ device: '/dev/sda', wipeTable: true, partitions }] }), [
    `error $.storage.disks[0].wipeTable: the table of the disk with ${WHAT} is wiped, which destroys the bundle`,
    `error $.storage.disks[0].partitions[0].wipePartitionEntry: ${WHAT} is deleted or recreated, which destroys the bundle`,
    `error $.storage.disks[0].partitions[1].shouldExist: ${WHAT} is deleted or recreated, which destroys the bundle`,
  ]);
});

test('what can hit the data partition, because its disk and its number are not known, is a warning', () => {
  const partitions = [
    { label: 'var', number: 5, wipePartitionEntry: true },
    { number: 6, shouldExist: false },
  ];
  assert.deepEqual(losses({ disks: [{ device: '/dev/sda', wipeTable: true, partitions }] }), [
    `warning $.storage.disks[0].wipeTable: if ${WHAT} is on this disk, wiping the table destroys it`,
    `warning $.storage.disks[0].partitions[0].wipePartitionEntry: partition 5 is deleted or recreated, but ${WHAT} can have that number`,
    `warning $.storage.disks[0].partitions[1].shouldExist: partition 6 is deleted or recreated, but ${WHAT} can have that number`,
  ]);
});

for (const [how, device, disk] of [
  ['its label', '/dev/disk/by-partlabel/data', undefined],
  ['its label, not simplified', '/dev/disk//by-partlabel/../by-partlabel/data', undefined],
  ['the label of its file system', '/dev/disk/by-label/data', undefined],
  ['its number', '/dev/sda5', '/dev/sda'],
  ['its number on a disk whose name ends in a digit', '/dev/nvme0n1p5', '/dev/nvme0n1'],
  ['its number by the id of the disk', '/dev/disk/by-id/wwn-0x1-part5', '/dev/disk/by-id/wwn-0x1'],
] as const) {
  test(`volumes, arrays and file systems over the data partition are found by ${how}`, () => {
    const storage = {
      ...(disk !== undefined && { disks: [{ device: disk, partitions: [{ label: 'data', number: 5 }] }] }),
      raid: [{ name: 'md', devices: ['/dev/sdz1', device] }],
      luks: [{ name: 'data', device }],
      filesystems: [
        { device, format: 'xfs', wipeFilesystem: true },
        { device, path: '/var/mnt' },
      ],
    };
    assert.deepEqual(losses(storage), [
      `error $.storage.raid[0].devices[1]: the array is created on ${WHAT} and destroys the bundle`,
      `error $.storage.luks[0].device: the encrypted volume is created on ${WHAT} and destroys the bundle`,
      `error $.storage.filesystems[0].wipeFilesystem: ${WHAT} is formatted, which destroys the bundle`,
      `warning $.storage.filesystems[1].device: Ignition would use ${WHAT} and fail if it holds another file system; leave the partition to prestage-agent`,
    ]);
  });
}

test('the label is that of the data partition, and what has another form is left to Ignition', () => {
  const luks = [{ name: 'x', device: '/dev/disk/by-partlabel/images' }];
  assert.deepEqual([losses({ luks }), losses({ luks }, 'images').length], [[], 1]);
  assert.deepEqual(losses({ disks: 7, luks: [7], raid: [{ devices: [7] }], filesystems: {} }), []);
});

test('a volume, an array or a file system over the whole disk with the data partition destroys it, too', () => {
  const device = '/dev/sda';
  const storage = {
    disks: [{ device: '/dev//sda', partitions: [{ label: 'data' }] }],
    raid: [{ name: 'md', devices: [device] }],
    luks: [{ name: 'x', device }],
    filesystems: [{ device, wipeFilesystem: true }, { device }, { device: '/dev/sdb', wipeFilesystem: true }],
  };
  assert.deepEqual(losses(storage), [
    `error $.storage.raid[0].devices[0]: the array is created on the whole disk with ${WHAT} and destroys the bundle`,
    `error $.storage.luks[0].device: the encrypted volume is created on the whole disk with ${WHAT} and destroys the bundle`,
    `error $.storage.filesystems[0].wipeFilesystem: the whole disk with ${WHAT} is formatted, which destroys the bundle`,
    `warning $.storage.filesystems[1].device: Ignition would use the whole disk with ${WHAT} and fail if it holds another file system; leave the partition to prestage-agent`,
  ]);
});

const dataUrl = (bytes: string | Buffer): string => `data:;base64,${Buffer.from(bytes).toString('base64')}`;
const text = (storage: unknown, more: object = {}): string => JSON.stringify({ ignition: { version: '3.2.0', ...more }, storage });
const nestedLosses = (ofConfig: unknown) =>
  dataLosses(parseConfig(JSON.stringify({ ignition: { version: '3.2.0', config: ofConfig } }), 'mine.ign'), 'data').map(
    ({ kind, path }) => `${kind} ${path}`,
  );
const WIPES = { disks: [{ device: '/dev/sda', partitions: [{ label: 'data', shouldExist: false }] }] };
const PLACE = '$.storage.disks[0].partitions[0].shouldExist';

test('configs that an override carries within are looked into, packed ones and those within them', () => {
  const inner = text(WIPES);
  const outer = text(undefined, { config: { replace: { source: dataUrl(inner) } } });
  const merge = [
    { source: dataUrl(inner) },
    { source: dataUrl(gzipSync(inner)), compression: 'gzip' },
    { source: dataUrl(outer) },
    { source: 'https://api-int.example.com:22623/config/worker' },
  ];
  assert.deepEqual(nestedLosses({ merge }), [
    `error $.ignition.config.merge[0].source, ${PLACE}`,
    `error $.ignition.config.merge[1].source, ${PLACE}`,
    `error $.ignition.config.merge[2].source, $.ignition.config.replace.source, ${PLACE}`,
  ]);
});

test('a device that one config names is known in the configs that it carries', () => {
  const carried = text({ filesystems: [{ device: '/dev/sda5', wipeFilesystem: true }] });
  const config = parseConfig(
    JSON.stringify({
      ignition: { version: '3.2.0', config: { replace: { source: dataUrl(carried) } } },
      storage: { disks: [{ device: '/dev/sda', partitions: [{ label: 'data', number: 5 }] }] },
    }),
    'mine.ign',
  );
  assert.deepEqual(
    dataLosses(config, 'data').map(({ path }) => path),
    ['$.ignition.config.replace.source, $.storage.filesystems[0].wipeFilesystem'],
  );
});

test('what is carried and cannot be read is left to Ignition, and so is what is nested without end', () => {
  const bomb = gzipSync(Buffer.alloc(5 * 1024 * 1024, ' '));
  const merge = [
    7,
    {},
    { source: null },
    { source: 'data:,%7' },
    { source: 'data:,x' },
    { source: 'data:,[]' },
    { source: dataUrl(bomb), compression: 'gzip' },
  ];
  assert.deepEqual(nestedLosses({ merge, replace: null }), []);
  assert.deepEqual([nestedLosses(null), nestedLosses({}), nestedLosses(7)], [[], [], []]);
  let config = text(WIPES);
  for (let level = 0; level < 5; level++) config = text(undefined, { config: { merge: [{ source: dataUrl(config) }] } });
  assert.deepEqual(nestedLosses({ merge: [{ source: dataUrl(config) }] }), []);
});
