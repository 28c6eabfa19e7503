import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  chainBelow,
  layersBelow,
  linkNamesOf,
  longLinkNameOf,
  membersOf,
  normalImages,
  normalLayers,
  parentsOf,
} from '../../../../agent/factory/compose/store-records.ts';
import { digests } from '../../../support/arbitraries.ts';

const AT = '2024-05-06T07:08:09Z';

test('a link name depends on the layer alone, is short, and differs between layers; the long one has the form of containers-storage', () => {
  fc.assert(
    fc.property(fc.uniqueArray(digests, { maxLength: 50 }), (ids) => {
      const names = linkNamesOf(ids);
      assert.deepEqual(new Map(ids.toReversed().map((id) => [id, linkNamesOf([id]).get(id)])), names);
      for (const name of names.values()) assert.match(name, /^[\w-]{8}$/);
      for (const id of ids) assert.match(longLinkNameOf(id), /^[A-Z2-7]{26}$/);
      assert.equal(new Set(names.values()).size, ids.length);
    }),
  );
});

test('link names that would be equal become longer', () => {
  const lengths = [...linkNamesOf(['a', 'b'], 0).values()].map((name) => name.length);
  assert.deepEqual(lengths, [1, 1]);
});

test('layer records come in one order, parents first, with one time and all their other fields', () => {
  const layers = [
    { id: 'c', parent: 'b', created: '2026-01-01T00:00:01Z', 'diff-size': 3, uidset: [0, 7] },
    { id: 'a', created: '2026-01-01T00:00:02Z', 'diff-size': 1 },
    { id: 'b', parent: 'z', created: '2026-01-01T00:00:03Z' },
    { id: 'z', created: '2026-01-01T00:00:04Z', flags: { x: true } },
  ];
  const expected = `${JSON.stringify([
    { id: 'a', created: AT, 'diff-size': 1 },
    { id: 'z', created: AT, flags: { x: true } },
    { id: 'b', created: AT, parent: 'z' },
    { id: 'c', created: AT, 'diff-size': 3, uidset: [0, 7], parent: 'b' },
  ])}\n`;
  fc.assert(
    fc.property(fc.shuffledSubarray(layers, { minLength: layers.length }), (shuffled) => {
      assert.equal(normalLayers(JSON.stringify([...shuffled, { id: 'other' }]), new Set(layers.map(({ id }) => id)), AT), expected);
    }),
  );
});

test('layer records that name each other as parents come to an end, too', () => {
  const loop = [
    { id: 'a', parent: 'b' },
    { id: 'b', parent: 'a' },
  ];
  assert.equal(JSON.parse(normalLayers(JSON.stringify(loop), new Set(['a', 'b']), AT)).length, 2);
});

test('image records come by id, with the names of the store alone; one whose config has no time gets that of the store', () => {
  const images = [
    { id: '2', created: '2020-01-01T00:00:00Z', names: ['quay.io/e/two:1', 'quay.io/e/two:2'], 'names-history': ['quay.io/e/two:2'] },
    { id: '1', created: '2026-11-21T08:46:06.1Z', names: null },
    { id: '3', created: '2021-01-01T00:00:00Z' },
    { id: '4', created: '2021-01-01T00:00:00Z', names: ['quay.io/e/four:1'] },
  ];
  const kept = new Map([
    ['2', { names: ['quay.io/e/two:1'], isUndated: false }],
    ['1', { names: [], isUndated: true }],
    ['3', { names: ['quay.io/e/three:1'], isUndated: false }],
  ]);
  assert.equal(
    normalImages(JSON.stringify(images), kept, AT),
    `${JSON.stringify([
      { id: '1', created: AT, names: [] },
      { id: '2', 'names-history': ['quay.io/e/two:1'], created: '2020-01-01T00:00:00Z', names: ['quay.io/e/two:1'] },
      { id: '3', created: '2021-01-01T00:00:00Z', names: ['quay.io/e/three:1'] },
    ])}\n`,
  );
});

test('the layers of images are theirs and all below, and an image without layers has none', () => {
  const layers = [{ id: 'base' }, { id: 'middle', parent: 'base' }, { id: 'top', parent: 'middle' }, { id: 'other', parent: 'base' }];
  const images = [{ id: '1', layer: 'top' }, { id: '2', layer: 'other' }, { id: '3' }, { id: '4', layer: 'middle' }];
  const below = (...ids: readonly string[]): readonly string[] => {
    const kept = new Map(ids.map((id) => [id, { names: [], isUndated: false }]));
    return [...layersBelow(JSON.stringify(layers), JSON.stringify(images), kept)].toSorted();
  };
  assert.deepEqual(below('1', '4'), ['base', 'middle', 'top']);
  assert.deepEqual(below('2'), ['base', 'other']);
  assert.deepEqual(below('3'), []);
  const parents = parentsOf(JSON.stringify(layers));
  assert.deepEqual(chainBelow(parents, 'top'), ['middle', 'base']);
  assert.deepEqual(chainBelow(parents, 'base'), []);
  assert.deepEqual(chainBelow(new Map([['a', 'a']]), 'a'), ['a']);
});

test('the members of a layer are told by clean paths, whatever bytes they have', () => {
  const lines = [
    { type: 2, payload: 'AAAA' },
    { type: 1, payload: null, position: 0 },
    { type: 1, name: './', payload: null, position: 1 },
    { type: 1, name: 'etc/', payload: null, position: 3 },
    { type: 1, name: '/usr//bin/../lib/./x', size: 3, payload: 'AAAAAAAA', position: 5 },
    { type: 1, name: 'größe', position: 7 },
    { type: 1, name_raw: Buffer.from([0x61, 0xff]).toString('base64'), position: 9 },
  ];
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  assert.deepEqual([...membersOf(text)], ['', 'etc', 'usr/lib/x', Buffer.from('größe').toString('latin1'), 'a\xff']);
});
