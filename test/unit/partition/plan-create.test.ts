import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PrestageError } from '../../../agent/model/errors.ts';
import { type CreateRequest, planCreate } from '../../../agent/partition/plan-create.ts';
import { diskFacts, diskPartition, GIB } from '../../support/disk-facts.ts';
import { thrownBy } from '../../support/thrown.ts';

const request = (change: Partial<CreateRequest> = {}): CreateRequest => ({
  label: 'data',
  sizeBytes: 100 * GIB,
  startSector: undefined,
  existing: 'refuse',
  ...change,
});
const rhcos = [1, 2, 3, 4].map((number) => diskPartition(number, [number * 10_000, number * 10_000 + 5000]));

test('the partition comes to the end of the disk, from a multiple of 1 MiB on, behind the numbers of RHCOS', () => {
  const disk = diskFacts({ partitions: rhcos });
  const partition = {
    number: 5,
    device: '/dev/sda5',
    startSector: 838_858_752,
    endSector: 1_048_575_966,
    label: 'data',
    fileSystem: 'xfs',
  };
  assert.deepEqual(planCreate(disk, request()), {
    disk,
    partition,
    steps: [
      { kind: 'add-partition', partition },
      { kind: 'format', partition },
    ],
    notices: [],
  });
});

test('a blank disk gets a table first, and leaves the numbers of RHCOS free', () => {
  const { steps, partition } = planCreate(diskFacts({ table: 'none' }), request());
  assert.deepEqual(
    steps.map((act) => act.kind),
    ['new-table', 'add-partition', 'format'],
  );
  assert.equal(partition.number, 5);
});

test('the second table of a disk that has grown is moved to its end', () => {
  assert.deepEqual(
    planCreate(diskFacts({ isGrown: true }), request()).steps.map((act) => act.kind),
    ['move-second-table', 'add-partition', 'format'],
  );
});

test('what the same command left between table and file system is formatted; elsewhere, or of unknown size, it stays a partition that is there', () => {
  const disk = diskFacts({ partitions: rhcos });
  const { partition } = planCreate(disk, request());
  const blank = { ...partition, fileSystem: undefined };
  const left = diskFacts({ partitions: [...rhcos, blank] });
  assert.deepEqual(planCreate(left, request()), { disk: left, partition, steps: [{ kind: 'format', partition: blank }], notices: [] });
  for (const change of [{ sizeBytes: 99 * GIB }, { sizeBytes: undefined }])
    assert.equal(thrownBy(() => planCreate(left, request(change))).code, 'ERR_PARTITION_EXISTS');
});

test('a first sector without a size takes the disk to its end, with a size as much as that', () => {
  const range = (change: Partial<CreateRequest>) => {
    const { startSector, endSector } = planCreate(diskFacts(), request(change)).partition;
    return [startSector, endSector];
  };
  assert.deepEqual(range({ startSector: 300_000_256, sizeBytes: undefined }), [300_000_256, 1_048_575_966]);
  assert.deepEqual(range({ startSector: 300_000_256, sizeBytes: 512 * 2_000_000 }), [300_000_256, 302_000_255]);
});

test('too little room for OpenShift in front, and a crooked first sector, are said', () => {
  assert.deepEqual(planCreate(diskFacts(), request({ startSector: 2049, sizeBytes: GIB })).notices, [
    'only 1.0 MiB precede the partition: OpenShift needs at least 120 GB to install on this disk',
    'sector 2049 is not aligned to 1 MiB: the disk may be slower',
  ]);
});

test('sectors of 4096 bytes are counted as such', () => {
  const { partition } = planCreate(diskFacts({ sectorBytes: 4096 }), request());
  assert.deepEqual([partition.startSector, partition.endSector], [104_857_344, 131_071_994]);
});

const full = diskFacts({ partitions: [diskPartition(1, [2048, 1_000_000_000], { label: 'root' })] });
const data = diskPartition(7, [2048, 999_999], { label: 'data', fileSystem: 'xfs' });
const withData = diskFacts({ partitions: [data] });
for (const { title, disk, change, error } of [
  {
    title: 'no room behind the last partition',
    disk: full,
    change: {},
    error: {
      code: 'ERR_DISK_ROOM',
      message:
        '/dev/sda has 23.2 GiB free at its end; a partition of 100.0 GiB (sectors 838858752 to 1048575966) would overlap partition 1 "root" (sectors 2048 to 1000000000)',
      remedy: 'Set another --size or --start-sector, remove a partition, or use a larger disk',
    },
  },
  {
    title: 'a partition that is larger than the disk',
    disk: diskFacts(),
    change: { sizeBytes: 501 * GIB },
    error: {
      code: 'ERR_DISK_ROOM',
      message: '/dev/sda has 500.0 GiB, its last usable sector is 1048575966; a partition of 501.0 GiB does not fit',
      remedy: 'Set another --size or --start-sector, remove a partition, or use a larger disk',
    },
  },
  {
    title: 'a first sector behind the end of the disk',
    disk: diskFacts(),
    change: { startSector: 2_000_000_000, sizeBytes: GIB },
    error: {
      code: 'ERR_DISK_ROOM',
      message:
        '/dev/sda has 500.0 GiB, its last usable sector is 1048575966; a partition of 1.0 GiB (sectors 2000000000 to 2002097151) does not fit',
      remedy: 'Set another --size or --start-sector, remove a partition, or use a larger disk',
    },
  },
  {
    title: 'a partition that is too small for XFS',
    disk: diskFacts(),
    change: { sizeBytes: 200 * 1024 * 1024 },
    error: {
      code: 'ERR_DISK_ROOM',
      message: 'a partition of 201.0 MiB is too small for XFS, which needs 300.0 MiB',
      remedy: 'Set another --size or --start-sector, remove a partition, or use a larger disk',
    },
  },
  {
    title: 'a partition of the label that is there',
    disk: withData,
    change: {},
    error: {
      code: 'ERR_PARTITION_EXISTS',
      message: '/dev/sda already has partition 7 "data" (sectors 2048 to 999999)',
      remedy: 'Write to it (prestage-agent partition write), or use --reuse to keep its content or --replace to discard it',
    },
  },
  {
    title: 'two partitions of the label, whatever is to become of them',
    disk: diskFacts({ partitions: [data, { ...data, number: 8 }] }),
    change: { existing: 'replace' as const },
    error: {
      code: 'ERR_PARTITION_AMBIGUOUS',
      message:
        '/dev/sda has 2 partitions with the label "data": partition 7 "data" (sectors 2048 to 999999), partition 8 "data" (sectors 2048 to 999999)',
      remedy: 'Relabel the wrong partition: sgdisk --change-name N:other DISK',
    },
  },
  {
    title: 'a partition to be reused that no bundle can be written to',
    disk: diskFacts({ partitions: [{ ...data, fileSystem: 'vfat' }] }),
    change: { existing: 'reuse' as const },
    error: {
      code: 'ERR_PARTITION_FILESYSTEM',
      message: '/dev/sda7 (label "data") holds vfat, which the agent cannot write a bundle to',
      remedy: 'Use --replace to discard its content',
    },
  },
  {
    title: 'no size',
    disk: diskFacts(),
    change: { sizeBytes: undefined },
    error: {
      code: 'ERR_USAGE',
      message: 'the size of the partition is missing',
      remedy: 'Set --size (100GiB for a release, 250GiB with operators), or --start-sector',
    },
  },
  {
    title: 'a label that would not come through sgdisk and systemd unharmed',
    disk: diskFacts(),
    change: { label: 'my data' },
    error: {
      code: 'ERR_USAGE',
      message: '"my data" is not a valid label',
      remedy: 'Use up to 36 letters, digits, dots, hyphens and underscores',
    },
  },
]) {
  test(`refused: ${title}`, () => {
    assert.deepEqual(
      thrownBy(() => planCreate(disk, request(change))),
      error,
    );
  });
}

test('a partition to be reused stays, and is formatted only where it holds nothing', () => {
  assert.deepEqual(planCreate(withData, request({ existing: 'reuse' })), {
    disk: withData,
    partition: data,
    steps: [],
    notices: ['/dev/sda7 and its content are kept'],
  });
  const bare = { ...data, fileSystem: undefined };
  const { steps } = planCreate(diskFacts({ partitions: [bare] }), request({ existing: 'reuse' }));
  assert.deepEqual(steps, [{ kind: 'format', partition: bare }]);
});

test('a partition to be replaced gives its number and, without a size, its place', () => {
  const same = planCreate(withData, request({ existing: 'replace', sizeBytes: undefined }));
  const partition = { ...data, fileSystem: 'xfs' };
  assert.deepEqual(same.steps, [
    { kind: 'delete-partition', partition: data },
    { kind: 'add-partition', partition },
    { kind: 'format', partition },
  ]);
  assert.equal(planCreate(withData, request({ existing: 'replace' })).partition.number, 7);
});

test('law: what is planned lies within the disk, overlaps no partition that stays, and has the size asked for', () => {
  const ranges = fc.array(fc.tuple(fc.nat(900_000), fc.integer({ min: 1, max: 300_000 })), { maxLength: 5 });
  const sector = fc.constantFrom(512, 4096);
  fc.assert(
    fc.property(
      ranges,
      sector,
      fc.nat(4_000),
      fc.option(fc.nat(1_100_000), { nil: undefined }),
      (pairs, sectorBytes, sizeMiB, startSector) => {
        const partitions = pairs.map(([start, length], index) => diskPartition(index + 1, [start, start + length - 1]));
        const disk = diskFacts({ sectorBytes, sizeBytes: 1_000_000 * sectorBytes, partitions });
        const sizeBytes = sizeMiB * 1024 * 1024;
        try {
          const { partition } = planCreate(disk, request({ sizeBytes, startSector }));
          assert.ok(partition.startSector >= 6 && partition.endSector <= disk.lastUsableSector);
          assert.ok((partition.endSector - partition.startSector + 1) * sectorBytes >= sizeBytes);
          assert.ok(partitions.every((other) => other.endSector < partition.startSector || other.startSector > partition.endSector));
          assert.ok(partitions.every((other) => other.number !== partition.number));
        } catch (error) {
          assert.ok(error instanceof PrestageError && error.code === 'ERR_DISK_ROOM', String(error));
        }
      },
    ),
  );
});
