import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Digest } from '../../../agent/model/digest.ts';
import type { ImageManifest, IndexManifest } from '../../../agent/model/manifest.ts';
import { missingBlobs, type TreeFacts } from '../../../agent/tree/tree-check.ts';
import { digestFor } from '../../support/source-images.ts';

const descriptor = (word: string) => ({ digest: digestFor(word), sizeBytes: 10, mediaType: '' });
const image = (config: string, ...layers: string[]): ImageManifest => ({
  kind: 'image',
  config: descriptor(config),
  layers: layers.map(descriptor),
});
const index = (...instances: readonly (readonly [string, string])[]): IndexManifest => ({
  kind: 'index',
  instances: instances.map(([word, architecture]) => ({ ...descriptor(word), os: 'linux', architecture, variant: '' })),
});

function facts(manifests: Readonly<Record<string, ImageManifest | IndexManifest | string>>, blobs: readonly string[]): TreeFacts {
  return {
    manifests: new Map(Object.entries(manifests).map(([word, manifest]) => [digestFor(word), manifest])),
    sizes: new Map<Digest, number>(blobs.map((word) => [digestFor(word), 10])),
  };
}

const served = (word: string, ...tags: string[]) => ({ repository: 'e/x', digest: digestFor(word), tags });

test('what an image lacks is named with the image and the part, each blob once', () => {
  const whole = facts({ m: image('c', 'a', 'b', 'a') }, ['a', 'b', 'c']);
  assert.deepEqual(missingBlobs([served('m', 'v1')], whole, 'amd64'), []);
  const bare = facts({ m: image('c', 'a', 'b', 'a') }, ['b']);
  assert.deepEqual(missingBlobs([served('m', 'v1', 'v2'), served('n')], bare, 'amd64'), [
    { image: 'e/x:v1', digest: digestFor('c'), part: 'config' },
    { image: 'e/x:v1', digest: digestFor('a'), part: 'layer' },
    { image: `e/x@${digestFor('n')}`, digest: digestFor('n'), part: 'manifest' },
  ]);
});

test('a blob of another size is missing, and so is a manifest that is none', () => {
  const short: TreeFacts = { manifests: new Map([[digestFor('m'), image('c')]]), sizes: new Map([[digestFor('c'), 9]]) };
  assert.deepEqual(
    missingBlobs([served('m')], short, 'amd64').map((one) => one.part),
    ['config'],
  );
  assert.deepEqual(
    missingBlobs([served('m')], facts({ m: 'is not JSON' }, []), 'amd64').map((one) => one.part),
    ['manifest'],
  );
});

test('of a list the image for the architecture must be whole, and others may be left out', () => {
  const list = index(['m', 'amd64'], ['n', 'arm64']);
  const some = facts({ list, m: image('c', 'a') }, ['a', 'c']);
  assert.deepEqual(missingBlobs([served('list', 'v1')], some, 'amd64'), []);
  assert.deepEqual(missingBlobs([served('list', 'v1')], some, 'arm64'), [{ image: 'e/x:v1', digest: digestFor('n'), part: 'manifest' }]);
  assert.deepEqual(missingBlobs([served('list', 'v1')], some, 's390x'), []);
});

test('a list that names itself is looked at once', () => {
  const loop = facts({ list: index(['list', 'amd64']) }, []);
  assert.deepEqual(missingBlobs([served('list', 'v1')], loop, 'amd64'), []);
});
