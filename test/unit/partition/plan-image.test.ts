import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Bundle, BundleFile } from '../../../agent/model/bundle.ts';
import { hashPlaced, parseExtents, parseLbaReport } from '../../../agent/partition/image-extents.ts';
import { formatPathList } from '../../../agent/partition/image-iso.ts';
import { checkImageSpace, planImage } from '../../../agent/partition/plan-image.ts';
import { thrownBy } from '../../support/thrown.ts';

const MIB = 1024 * 1024;
const file = (path: string, sizeBytes = MIB): BundleFile => ({ path, sizeBytes, sha256: '0'.repeat(64) });
const bundleOf = (...files: readonly BundleFile[]): Bundle => ({
  apiVersion: 'prestage-agent/v1',
  kind: 'Bundle',
  release: '4.15.0',
  architecture: 'amd64',
  createdAt: '2026-01-01T00:00:00Z',
  createdBy: { name: 'test', version: '0' },
  stages: {},
  payloads: [],
  files: [...files],
});

test('root gets XFS, others ext4, and virtual media ISO 9660, sized to the content', () => {
  const bundle = bundleOf(file('a', 1000 * MIB));
  const plan = (format: 'disk' | 'iso', isRoot: boolean) => planImage(bundle, { format, label: 'data', isRoot });
  assert.deepEqual(plan('disk', true), { format: 'disk', fileSystem: 'xfs', partitionBytes: 1368 * MIB, sizeBytes: 1370 * MIB });
  assert.deepEqual(plan('disk', false), { format: 'disk', fileSystem: 'ext4', partitionBytes: 1187 * MIB, sizeBytes: 1189 * MIB });
  assert.deepEqual(plan('iso', true), { format: 'iso', fileSystem: 'iso9660', partitionBytes: 1003 * MIB, sizeBytes: 1003 * MIB });
});

test('a label that is too long for ISO 9660 is refused', () => {
  assert.deepEqual(
    thrownBy(() => planImage(bundleOf(), { format: 'iso', label: 'x'.repeat(33), isRoot: true })),
    {
      code: 'ERR_USAGE',
      message: `"${'x'.repeat(33)}" has 33 characters; the label of an ISO image may have 32`,
      remedy: 'Use a shorter --label',
    },
  );
});

test('names that the makers of images would misread are refused, except where the bundle is written through a mount', () => {
  const bundle = bundleOf(file('a"b'), file('c\nd'), file('plain = name@sha256_x'));
  assert.deepEqual(
    thrownBy(() => planImage(bundle, { format: 'iso', label: 'data', isRoot: true })),
    {
      code: 'ERR_USAGE',
      message: [
        'some files of the bundle cannot be stored in an image: 2 faults',
        '"a\\"b" contains a quote, a backslash or a control character',
        '"c\\nd" contains a quote, a backslash or a control character',
      ].join('\n'),
      remedy: 'Rename them and build the bundle again, or make a disk image as root',
    },
  );
  assert.equal(planImage(bundle, { format: 'disk', label: 'data', isRoot: true }).fileSystem, 'xfs');
});

test('an image that does not fit is refused before it is begun', () => {
  const plan = planImage(bundleOf(file('a')), { format: 'iso', label: 'data', isRoot: false });
  checkImageSpace(plan, { path: '/srv', freeBytes: plan.sizeBytes });
  assert.deepEqual(
    thrownBy(() => checkImageSpace(plan, { path: '/srv', freeBytes: MIB })),
    {
      code: 'ERR_SPACE_PARTITION',
      message: '/srv has 1.0 MiB free, but the image needs 4.0 MiB',
      remedy: 'Free space there, or write the image to another file system',
    },
  );
});

test('the list for xorriso escapes the equals signs of names', () => {
  assert.equal(formatPathList('/b=1', [file('a=b.tgz'), file('c d')]), '/a\\=b.tgz=/b\\=1/a\\=b.tgz\n/c d=/b\\=1/c d\n');
});

test('files of an ISO image are found with all their parts', () => {
  const report = [
    'Report layout: xt , Startlba ,   Blocks , Filesize , ISO image path',
    "File data lba:  0 ,       38 ,        1 ,        2 , '/a b=c@sha256_x.tgz'",
    "File data lba:  0 ,       38 ,  2097151 , 5368709120 , '/huge'",
    "File data lba:  1 ,  2097189 ,   524289 , 5368709120 , '/huge'",
    "File data lba:  0 ,        0 ,        0 ,        0 , '/empty'",
  ].join('\n');
  assert.deepEqual(
    parseLbaReport(report),
    new Map([
      ['a b=c@sha256_x.tgz', { sizeBytes: 2, extents: [{ offset: 77_824, length: 2, at: 0 }] }],
      [
        'huge',
        {
          sizeBytes: 5_368_709_120,
          extents: [
            { offset: 77_824, length: 4_294_965_248, at: 0 },
            { offset: 4_295_043_072, length: 1_073_743_872, at: 4_294_965_248 },
          ],
        },
      ],
      ['empty', { sizeBytes: 0, extents: [] }],
    ]),
  );
});

test('files of an ext4 file system are found with their holes; a file that is not there is not', () => {
  const text = [
    'debugfs: ex -l "/a"',
    'Level Entries       Logical      Physical Length Flags',
    ' 0/ 0   1/  2     0 -     1  4427 -  4428      2 ',
    ' 0/ 0   2/  2     5 -     5  5000 -  5000      1 ',
    ' 0/ 0   3/  3     6 -     6  5001 -  5001      1 Uninit',
    'debugfs: ex -l "/empty"',
    'Level Entries       Logical      Physical Length Flags',
    'debugfs: ex -l "/nope"',
    '',
  ].join('\n');
  const sizes = new Map([
    ['a', 24_000],
    ['empty', 0],
    ['nope', 1],
  ]);
  assert.deepEqual(
    parseExtents(text, { sizes, blockBytes: 4096, startBytes: MIB }),
    new Map([
      [
        'a',
        {
          sizeBytes: 24_000,
          extents: [
            { offset: MIB + 4427 * 4096, length: 8192, at: 0 },
            { offset: MIB + 5000 * 4096, length: 3520, at: 20_480 },
          ],
        },
      ],
      ['empty', { sizeBytes: 0, extents: [] }],
    ]),
  );
});

test('a placed file is hashed with zeros where it has holes, and an image that ends too early is an error', async () => {
  const work = await mkdtemp(join(tmpdir(), 'extents-'));
  try {
    const image = join(work, 'image');
    await writeFile(image, 'xxabcxxdef');
    const signal = new AbortController().signal;
    let bytes = 0;
    const onBytes = (added: number): void => {
      bytes += added;
    };
    const extents = [
      { offset: 2, length: 3, at: 0 },
      { offset: 7, length: 3, at: 5 },
    ];
    const expected = createHash('sha256').update('abc\0\0def\0').digest('hex');
    assert.equal(await hashPlaced(image, { sizeBytes: 9, extents }, { signal, onBytes }), expected);
    assert.equal(bytes, 6);
    await assert.rejects(hashPlaced(image, { sizeBytes: 9, extents: [{ offset: 7, length: 9, at: 0 }] }, { signal, onBytes }), {
      code: 'ERR_PARTITION_WRITE',
      message: `${image} ends before its files do`,
    });
  } finally {
    await rm(work, { recursive: true });
  }
});
