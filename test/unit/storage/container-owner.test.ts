import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { containerTitle, podOf } from '../../../agent/storage/container-owner.ts';

const SANDBOX = {
  'pod-name': 'k8s_web_shop_8f2c_0',
  'pod-id': 'p1',
  'image-name': 'quay.io/a/pause:1',
  name: 'k8s_POD_web_shop_8f2c_0',
  'metadata-name': 'POD',
  'created-at': 1,
  pod: true,
};
const record = (metadata: unknown, names: readonly string[] = ['some-name']) => ({
  id: 'c1',
  names: [...names],
  metadata: typeof metadata === 'string' ? metadata : JSON.stringify(metadata),
});

describe('a container of CRI-O', () => {
  it('belongs to the pod of its metadata', () => assert.deepEqual(podOf(record(SANDBOX)), { id: 'p1', name: 'shop/web' }));

  it('is called by its pod and its own name there', () => {
    assert.equal(containerTitle(record(SANDBOX)), 'the sandbox of pod shop/web');
    assert.equal(containerTitle(record({ ...SANDBOX, 'metadata-name': 'app', pod: false })), 'app of pod shop/web');
  });

  it('keeps a name of a pod that has another form', () =>
    assert.deepEqual(podOf(record({ ...SANDBOX, 'pod-name': 'by-hand' })), { id: 'p1', name: 'by-hand' }));
});

describe('a container of another engine', () => {
  const podman = { 'image-name': 'quay.io/a/b:1', 'image-id': 'i', name: 'web', 'created-at': 1 };
  for (const [what, metadata] of [
    ['podman', podman],
    ['one that keeps text of its own', 'not JSON'],
    ['one that keeps nothing', ''],
    ['one that names no pod', { ...SANDBOX, 'pod-id': '' }],
  ] as const) {
    it(`belongs to no pod and goes by its name (${what})`, () =>
      assert.deepEqual([podOf(record(metadata)), containerTitle(record(metadata))], [undefined, 'some-name']));
  }

  it('without a name goes by its id', () => assert.equal(containerTitle(record('', [])), 'c1'));
});
