import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withBundleFacts } from '../../../agent/load/record-plan.ts';
import { absentText, formatAbsentInstances, parseAbsentInstances, platformText } from '../../../agent/model/absent-instances.ts';
import { digestFor } from '../../support/source-images.ts';

const [list, other, arm, s390x] = [digestFor('list'), digestFor('other'), digestFor('arm'), digestFor('s390x')];
const ARM = { digest: arm, platform: 'linux/arm64/v8' };

test('a platform is one word of what the list says', () => {
  assert.equal(platformText({ os: 'linux', architecture: 'arm64', variant: 'v8' }), 'linux/arm64/v8');
  assert.equal(platformText({ os: 'linux', architecture: 's390x', variant: '' }), 'linux/s390x');
  assert.equal(platformText({ os: '', architecture: '', variant: '' }), '');
});

test('a record is read as it was written, the same bytes in whatever order the lists came', () => {
  const one = new Map([
    [list, [ARM]],
    [other, []],
  ] as const);
  assert.deepEqual(parseAbsentInstances(formatAbsentInstances(one)), new Map([...one].toSorted(([a], [b]) => (a < b ? -1 : 1))));
  assert.equal(formatAbsentInstances(one), formatAbsentInstances(new Map([...one].toReversed())));
});

test('a record that cannot be read counts as an empty one, and what is not a digest in it is passed over', () => {
  for (const text of ['', '{', '[]', '{"lists":[]}', `{"lists":{"${list}":[{"digest":"x","platform":""}]}}`]) {
    assert.deepEqual(parseAbsentInstances(text), new Map());
  }
  assert.deepEqual(parseAbsentInstances(`{"lists":{"x":[],"${list}":[]}}`), new Map([[list, []]]));
});

test('what images lack is told in one line, with the number of manifests of each platform', () => {
  const fate = 'this layout does not have';
  assert.equal(absentText([], fate), undefined);
  assert.equal(absentText([{ reference: 'quay.io/e/a:1' }, { reference: 'quay.io/e/b:1', absent: [] }], fate), undefined);
  assert.equal(
    absentText([{ reference: 'quay.io/e/a:1' }, { reference: 'quay.io/e/b:1', absent: [ARM] }], fate),
    `the list of 1 image names 1 manifest that this layout does not have: linux/arm64/v8 (1); first: ${arm} of quay.io/e/b:1`,
  );
  const both = [ARM, { digest: s390x, platform: '' }];
  assert.equal(
    absentText(
      [
        { reference: 'quay.io/e/a:1', absent: both },
        { reference: 'quay.io/e/b:1', absent: [ARM] },
      ],
      fate,
    ),
    `the lists of 2 images name 3 manifests that this layout does not have: linux/arm64/v8 (2), no platform (1); first: ${arm} of quay.io/e/a:1`,
  );
});

test('of many platforms the line names five', () => {
  const absent = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => ({ digest: digestFor(name), platform: `linux/${name}` }));
  assert.match(
    absentText([{ reference: 'quay.io/e/a:1', absent }], 'are lost') ?? '',
    /: linux\/a \(1\), linux\/b \(1\), linux\/c \(1\), linux\/d \(1\), linux\/e \(1\), 2 more platforms; first: /,
  );
});

test('a run knows of its images what the bundle says that nobody could bring, and their names in releases', () => {
  const image = (reference: string) => ({ reference, names: [], digests: [list], state: 'present' as const });
  const ofBundle = (reference: string) => ({ reference, names: [reference], manifestDigest: list, compressedBytes: 0, unpackedBytes: 0 });
  const facts = [{ ...ofBundle('a'), absent: [ARM] }, { ...ofBundle('b'), components: ['etcd'] }, ofBundle('c')];
  assert.deepEqual(withBundleFacts([image('a'), image('b'), image('c'), image('d')], facts), [
    { ...image('a'), absent: [ARM] },
    { ...image('b'), components: ['etcd'] },
    image('c'),
    image('d'),
  ]);
});
