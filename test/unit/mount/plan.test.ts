import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { linuxHost } from '../../../agent/host/linux.ts';
import { PLACEMENT_CHOICES, TRUST_CHOICES } from '../../../agent/model/store.ts';
import {
  bindMountArgs,
  squashfsMountArgs,
  tmpfsMountArgs,
  verityCloseArgs,
  verityDeferredCloses,
  verityOpenArgs,
} from '../../../agent/mount/mount-argv.ts';
import { mountRefusal } from '../../../agent/mount/mount-refusal.ts';
import { checkRoom, choosePlacements, memoryReserveBytes } from '../../../agent/mount/placement.ts';
import { chooseTrust, type TrustFacts, verityFacts } from '../../../agent/mount/trust.ts';
import { codeOf, thrownBy } from '../../support/thrown.ts';

const MIB = 1024 * 1024;
const able: TrustFacts = { verityLacks: undefined, hasHashTree: true, isCopiedNow: false };
const NO_DM = 'the kernel has no device-mapper';

test('auto takes dm-verity where there is all for it, the hash of a copy that is made anyway, and the background for the rest', () => {
  const rows: readonly (readonly [Partial<TrustFacts>, string, string])[] = [
    [{}, 'verity', 'the kernel checks blocks when they are read, and nothing has to be hashed beforehand'],
    [{ isCopiedNow: true }, 'verity', 'the kernel checks blocks when they are read, and nothing has to be hashed beforehand'],
    [{ verityLacks: NO_DM }, 'background', `${NO_DM}; the image is usable at once and hashed while the boot continues`],
    [{ verityLacks: NO_DM, isCopiedNow: true }, 'hash', `${NO_DM}; the image is hashed while it is copied`],
    [
      { hasHashTree: false, isCopiedNow: true },
      'hash',
      'the bundle has no hash tree for the image; the image is hashed while it is copied',
    ],
  ];
  for (const [facts, kind, reason] of rows) assert.deepEqual(chooseTrust('auto', { ...able, ...facts }), { kind, reason });
});

test('a kind of trust that is asked for is taken, or refused with what is missing', () => {
  assert.deepEqual(
    thrownBy(() => chooseTrust('verity', { ...able, verityLacks: NO_DM })),
    {
      code: 'ERR_TRUST',
      message: `dm-verity was requested, but ${NO_DM}`,
      remedy: 'Give --trust auto, or --trust hash',
    },
  );
  assert.equal(thrownBy(() => chooseTrust('verity', { ...able, hasHashTree: false })).code, 'ERR_TRUST');
  const facts = fc.record({
    verityLacks: fc.constantFrom(undefined, NO_DM),
    hasHashTree: fc.boolean(),
    isCopiedNow: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.constantFrom(...TRUST_CHOICES), facts, (wanted, found) => {
      const isPossible = found.verityLacks === undefined && found.hasHashTree;
      if (wanted === 'verity' && !isPossible)
        return assert.equal(
          codeOf(() => chooseTrust(wanted, found)),
          'ERR_TRUST',
        );
      const { kind, reason } = chooseTrust(wanted, found);
      if (wanted !== 'auto') return assert.deepEqual([kind, reason], [wanted, 'it was requested']);
      return assert.equal(kind === 'verity', isPossible);
    }),
  );
});

test('dm-verity takes the device-mapper of the kernel and veritysetup', async () => {
  const root = await mkdtemp(join(tmpdir(), 'verity-'));
  const bin = join(root, 'bin');
  const factsWith = async (PATH: string) => await verityFacts(linuxHost({ root, env: { PATH }, log: () => undefined }));
  try {
    assert.deepEqual(await factsWith(bin), { verityLacks: 'the kernel has no device-mapper' });
    await mkdir(join(root, 'dev/mapper'), { recursive: true });
    await writeFile(join(root, 'dev/mapper/control'), '');
    assert.deepEqual(await factsWith(bin), { verityLacks: 'veritysetup is not installed on this machine' });
    await mkdir(bin);
    await writeFile(join(bin, 'veritysetup'), '');
    await chmod(join(bin, 'veritysetup'), 0o755);
    assert.deepEqual(await factsWith(`/nowhere:${bin}`), { verityLacks: undefined });
  } finally {
    await rm(root, { recursive: true });
  }
});

test('auto places the image in memory in discovery, or on a medium that nothing is installed to, and leaves it on the partition afterwards', () => {
  const inMemory = { kind: 'ram', reason: 'the disk of the partition must be free for the installation' };
  assert.deepEqual(choosePlacements('auto', { stage: 'discovery', isMedium: false }), [inMemory]);
  assert.deepEqual(choosePlacements('auto', { stage: 'discovery', isMedium: true }), [
    inMemory,
    { kind: 'partition', reason: 'nothing is installed to the medium of the bundle' },
  ]);
  for (const isMedium of [true, false])
    assert.deepEqual(choosePlacements('auto', { stage: 'installed', isMedium }), [
      { kind: 'partition', reason: 'the partition stays available, and nothing has to be copied' },
    ]);
  for (const wanted of PLACEMENT_CHOICES.filter((choice) => choice !== 'auto'))
    assert.deepEqual(choosePlacements(wanted, { stage: 'discovery', isMedium: true }), [{ kind: wanted, reason: 'it was requested' }]);
});

test('a refusal of mount tells of the kernel, of the kernel or the image, or of neither', () => {
  const rows = [
    ["mount: /s: unknown filesystem type 'squashfs'.", 'kernel'],
    ['mount: /s: mount system call failed: No such device.', 'kernel'],
    ['mount: /s: fsconfig() failed: squashfs: Filesystem uses "zstd" compression. This is not supported.', 'kernel'],
    ['mount: /s: wrong fs type, bad option, bad superblock on /dev/loop2, missing codepage or helper program, or other error.', 'either'],
    ['mount: /s: mount system call failed: Invalid argument.', 'either'],
    ["mount: /s: can't read superblock on /dev/dm-0.", 'other'],
    ['mount: /s: failed to setup loop device for /i: No such device.', 'other'],
    ['mount: /s: permission denied.', 'other'],
  ] as const;
  for (const [stderr, expected] of rows) assert.equal(mountRefusal(stderr), expected, stderr);
});

test('what must stay free is an eighth of the memory, within limits', () => {
  const rows = [
    [0, 256],
    [1024, 256],
    [2048, 256],
    [8192, 1024],
    [16_384, 2048],
    [1_048_576, 2048],
  ] as const;
  for (const [total, reserve] of rows) assert.equal(memoryReserveBytes(total * MIB), reserve * MIB, `${total} MiB`);
});

test('a copy in memory leaves the reserve to the others, and one on the disk must fit', () => {
  const facts = { neededBytes: 100 * MIB, availableMemoryBytes: 164 * MIB, reserveBytes: 64 * MIB, freeDiskBytes: 100 * MIB };
  for (const placement of ['ram', 'disk', 'partition'] as const) checkRoom(placement, facts);
  const short = { ...facts, availableMemoryBytes: 164 * MIB - 1, freeDiskBytes: 100 * MIB - 1 };
  assert.deepEqual(
    thrownBy(() => checkRoom('ram', short)),
    {
      code: 'ERR_SPACE_MEMORY',
      message: 'the store image needs 100.0 MiB of memory and 64.0 MiB must stay free, but only 164.0 MiB is available',
      remedy:
        'Give the machine more memory, or a smaller --memory-reserve, or --placement partition if nothing is installed to the disk of the partition',
    },
  );
  assert.deepEqual(
    thrownBy(() => checkRoom('disk', short)),
    {
      code: 'ERR_SPACE_STORE',
      message: 'the copy of the store image needs 100.0 MiB, but the disk has only 100.0 MiB free',
      remedy: 'Free space below /var/lib/prestage-agent, or give --placement partition',
    },
  );
  checkRoom('partition', { ...short, availableMemoryBytes: 0, freeDiskBytes: 0 });
});

test('a store image is mounted read-only, without devices, setuid and programs of the mount itself, with a label where SELinux is on', () => {
  const target = '/var/lib/prestage-agent/store';
  assert.deepEqual(squashfsMountArgs({ source: '/run/x.squashfs', isFile: true, target, hasSelinux: true }), [
    '-t',
    'squashfs',
    '-o',
    'loop,ro,nosuid,nodev,noexec,context="system_u:object_r:container_ro_file_t:s0"',
    '/run/x.squashfs',
    target,
  ]);
  assert.deepEqual(squashfsMountArgs({ source: '/dev/mapper/prestage-installed', isFile: false, target, hasSelinux: false }), [
    '-t',
    'squashfs',
    '-o',
    'ro,nosuid,nodev,noexec',
    '/dev/mapper/prestage-installed',
    target,
  ]);
  assert.deepEqual(bindMountArgs('/mnt', '/run/data'), ['-o', 'bind,ro,nosuid,nodev,noexec', '/mnt', '/run/data']);
});

test('the tmpfs of a copy holds it and 1 MiB more, for root alone', () => {
  assert.deepEqual(tmpfsMountArgs(5 * MIB, '/run/ram'), [
    '-t',
    'tmpfs',
    '-o',
    `size=${6 * MIB},mode=0700,nosuid,nodev,noexec`,
    'prestage-agent',
    '/run/ram',
  ]);
});

test('dm-verity is opened by image, name, hash tree and root hash, and closed at once or with its last user', () => {
  const opening = { stage: 'installed', image: '/d/x.squashfs', hashTree: '/d/x.verity', rootHash: 'ab'.repeat(32) } as const;
  assert.deepEqual(verityOpenArgs(opening), ['open', '/d/x.squashfs', 'prestage-installed', '/d/x.verity', 'ab'.repeat(32)]);
  assert.deepEqual(verityCloseArgs('discovery'), ['close', 'prestage-discovery']);
  assert.deepEqual(verityDeferredCloses('discovery'), [
    { file: 'veritysetup', args: ['close', '--deferred', 'prestage-discovery'] },
    { file: 'dmsetup', args: ['remove', '--deferred', 'prestage-discovery'] },
  ]);
});
