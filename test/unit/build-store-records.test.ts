import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { linkNameOf, membersOf, normalImages, normalLayers } from '../../agent/factory/build/store-records.ts';
import { digests } from '../support/arbitraries.ts';

const AT = '2024-05-06T07:08:09Z';

test('a link name has the form of containers-storage, depends on the layer alone, and differs between layers', () => {
  fc.assert(
    fc.property(fc.uniqueArray(digests, { maxLength: 50 }), (ids) => {
      const names = ids.map(linkNameOf);
      assert.deepEqual(names, ids.map(linkNameOf));
      for (const name of names) assert.match(name, /^[A-Z2-7]{26}$/);
      assert.equal(new Set(names).size, names.length);
    }),
  );
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
      assert.equal(normalLayers(JSON.stringify(shuffled), AT), expected);
    }),
  );
});

test('layer records that name each other as parents come to an end, too', () => {
  const loop = [
    { id: 'a', parent: 'b' },
    { id: 'b', parent: 'a' },
  ];
  assert.equal(JSON.parse(normalLayers(JSON.stringify(loop), AT)).length, 2);
});

test('image records come by id and keep the time of their config; one without gets the time of the store', () => {
  const images = [
    { id: '2', created: '2020-01-01T00:00:00Z', names: ['quay.io/e/two:1'] },
    { id: '1', created: '2026-11-21T08:46:06.1Z', names: null },
    { id: '3', created: '2021-01-01T00:00:00Z' },
  ];
  assert.equal(
    normalImages(JSON.stringify(images), new Set(['1']), AT),
    `${JSON.stringify([
      { id: '1', created: AT, names: null },
      { id: '2', created: '2020-01-01T00:00:00Z', names: ['quay.io/e/two:1'] },
      { id: '3', created: '2021-01-01T00:00:00Z' },
    ])}\n`,
  );
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
