import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withNested } from '../../../agent/extract/nested-entries.ts';
import type { Digest } from '../../../agent/model/digest.ts';
import { type OciIndex, parseOciIndex } from '../../../agent/model/oci-layout.ts';
import { digestFor } from '../../support/source-images.ts';

const IMAGE = 'application/vnd.oci.image.manifest.v1+json';
const INDEX = 'application/vnd.oci.image.index.v1+json';
const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';

interface Entry {
  readonly of: string;
  readonly name?: string;
  readonly type?: string;
}

function index(...entries: readonly Entry[]): OciIndex {
  const manifests = entries.map(({ of, name, type = IMAGE }) => ({
    mediaType: type,
    digest: of === '' ? 'sha512:0' : digestFor(of),
    size: 7,
    ...(name !== undefined && { annotations: { 'io.containerd.image.name': name } }),
  }));
  return parseOciIndex(JSON.stringify({ schemaVersion: 2, manifests }), 'index.json');
}

/** @param blobs indexes by what their digests are of */
async function nested(top: OciIndex, blobs: Readonly<Record<string, OciIndex>> = {}) {
  const byDigest = new Map(Object.entries(blobs).map(([of, one]) => [digestFor(of), one]));
  const read: Digest[] = [];
  const found = await withNested(top, async (digest) => {
    read.push(digest);
    return byDigest.get(digest);
  });
  return { entries: found.entries.map(({ place, reference, digest }) => [place, reference, digest]), skipped: found.skipped, read };
}

test('images that are named in an index below the index are found, each with its place', async () => {
  for (const type of [INDEX, DOCKER_LIST]) {
    const inner = index({ of: 'a', name: 'quay.io/e/a:1' }, { of: 'b', name: 'quay.io/e/b:1' }, { of: 'c' }, { of: '' });
    const { entries, skipped } = await nested(index({ of: 'x', name: 'quay.io/e/x:1' }, { of: 'inner', type }), { inner });
    assert.deepEqual(entries, [
      ['manifests.0', 'quay.io/e/x:1', digestFor('x')],
      ['manifests.1.manifests.0', 'quay.io/e/a:1', digestFor('a')],
      ['manifests.1.manifests.1', 'quay.io/e/b:1', digestFor('b')],
      ['manifests.1.manifests.2', '', digestFor('c')],
    ]);
    assert.deepEqual(
      skipped.map(({ place }) => place),
      ['manifests.1.manifests.3'],
    );
  }
});

test('a list with a full name is one image, whatever its platforms are called', async () => {
  const inner = index({ of: 'a', name: 'quay.io/e/a:amd64' });
  const { entries, read } = await nested(index({ of: 'inner', name: 'quay.io/e/list:1', type: INDEX }), { inner });
  assert.deepEqual([entries, read], [[['manifests.0', 'quay.io/e/list:1', digestFor('inner')]], []]);
});

test('an index in which nothing has a full name stays an image without a name', async () => {
  const inner = index({ of: 'a' }, { of: 'b', name: '1.0' });
  const { entries, skipped } = await nested(index({ of: 'inner', name: 'latest', type: INDEX }), { inner });
  assert.deepEqual([entries, skipped], [[['manifests.0', 'latest', digestFor('inner')]], []]);
});

test('an index that cannot be read stays what it is', async () => {
  assert.deepEqual((await nested(index({ of: 'gone', type: INDEX }))).entries, [['manifests.0', '', digestFor('gone')]]);
});

test('an image that is named twice is given once', async () => {
  const inner = index({ of: 'a', name: 'quay.io/e/a:1' });
  const { entries } = await nested(index({ of: 'a', name: 'quay.io/e/a:1' }, { of: 'inner', type: INDEX }), { inner });
  assert.deepEqual(entries, [['manifests.0', 'quay.io/e/a:1', digestFor('a')]]);
});

test('three levels are read and no more, and no index twice under two names', async () => {
  const level = (of: string): OciIndex => index({ of, type: INDEX }, { of: `image ${of}`, name: `quay.io/e/${of}:1` });
  const { entries, read } = await nested(index({ of: 'one', type: INDEX }, { of: 'one', name: 'tag', type: INDEX }), {
    one: level('two'),
    two: level('three'),
    three: level('four'),
    four: level('five'),
  });
  assert.deepEqual(read, ['one', 'two', 'three'].map(digestFor));
  assert.deepEqual(
    entries.map(([place]) => place),
    [
      'manifests.0.manifests.0.manifests.0.manifests.0',
      'manifests.0.manifests.0.manifests.0.manifests.1',
      'manifests.0.manifests.0.manifests.1',
      'manifests.0.manifests.1',
    ],
  );
});

test('of a layout made to cost memory, a thousand indexes are read', async () => {
  const many = index(...Array.from({ length: 1001 }, (_, number) => ({ of: `n${number}`, type: INDEX })));
  const { entries, read } = await nested(many);
  assert.deepEqual([entries.length, read.length], [1001, 1000]);
  const [one] = index({ of: 'image' }).entries;
  const huge = {
    entries: Array.from({ length: 60_000 }, (_, n) => ({ ...(one ?? assert.fail()), reference: `quay.io/e/n${n}:1` })),
    skipped: [],
  };
  const two = await nested(index({ of: 'one', type: INDEX }, { of: 'two', type: INDEX }), { one: huge, two: huge });
  assert.deepEqual([two.entries.length, two.entries.at(-1)], [60_001, ['manifests.1', '', digestFor('two')]]);
});
