import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kernelReason } from '../../../agent/host/kernel-reason.ts';
import { unmountableFeatures } from '../../../agent/partition/xfs-features.ts';

test('what the kernel said last of the device is quoted without its time, and nothing of other devices', () => {
  const messages = [
    '[    1.000000] XFS (sda5): Superblock has unknown incompatible features (0x20) enabled.',
    '[    1.100000] XFS (sda5): Filesystem cannot be safely mounted by this kernel.',
    '[    1.200000] XFS (sda50): Mounting V5 Filesystem',
    '[    1.300000] XFS (sda5): Unmounting Filesystem 192a96d9',
    '[    1.400000] usb 1-1: new device',
    '',
  ].join('\n');
  assert.equal(kernelReason(messages, '/dev/sda5'), 'XFS (sda5): Filesystem cannot be safely mounted by this kernel.');
  assert.equal(kernelReason(messages, '/dev/sda50'), undefined);
  assert.equal(kernelReason('', '/dev/sda5'), undefined);
  const old = `[ 1.0] XFS (sda5): bad\n${'[ 2.0] other\n'.repeat(40)}`;
  assert.equal(kernelReason(old, '/dev/sda5'), undefined);
});

test('a driver whose messages name no device is found by its words', () => {
  const messages = [
    '[    1.000000] device-mapper: verity: 253:0: data block 7 is corrupted',
    '[    1.100000] SQUASHFS error: Filesystem uses "zstd" compression. This is not supported',
    '[    1.200000] usb 1-1: new device',
  ].join('\n');
  assert.equal(kernelReason(messages, /squashfs/i), 'SQUASHFS error: Filesystem uses "zstd" compression. This is not supported');
  assert.equal(kernelReason(messages, /device-mapper: verity/), 'device-mapper: verity: 253:0: data block 7 is corrupted');
  assert.equal(kernelReason(messages, /erofs/), undefined);
});

test('features of an XFS are held against the kernel of the release; without a release the oldest counts', () => {
  const all = 0x1f7 | 8;
  const [bigtime, nrext64] = ['bigtime (from 4.13 on)', 'nrext64 (from 4.16 on)'];
  const newest = ['exchange (from 5.0 on)', 'parent (from 5.0 on)', 'metadir (from 5.0 on)'];
  const rows = [
    [all, '4.12.9', [bigtime, nrext64, ...newest]],
    [all, '4.14.0', [nrext64, ...newest]],
    [all, '4.16.0', newest],
    [all, '5.0.0', []],
    [0x28, '', [bigtime, nrext64]],
    [0x7, '4.12.9', []],
  ] as const;
  for (const [bits, release, names] of rows) assert.deepEqual(unmountableFeatures(bits, release), names, `${bits} ${release}`);
});
