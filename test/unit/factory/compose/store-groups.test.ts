import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Part } from '../../../../agent/factory/compose/plan.ts';
import { type NamedImage, unionOf } from '../../../../agent/factory/compose/source-image.ts';
import { makingGroups } from '../../../../agent/factory/compose/store-groups.ts';
import { digestFor, imageOf, layerFor, named } from '../../../support/source-images.ts';

const one = named('quay.io/e/one:1', ['base', 'one']);
const two = named('quay.io/e/two:1', ['base', 'two']);

function store(id: string, images: readonly NamedImage[]): Part {
  return { id, kind: 'store', key: id, paths: [], images, outputBytes: 0, workBytes: 0 };
}

const agent: Part = { ...store('agent', []), kind: 'agent' };

/** Ids by groups. */
function grouped(...parts: readonly Part[]): readonly (readonly string[])[] {
  return makingGroups(parts).map((group) => group.map(({ id }) => id));
}

test('stores stand together before all other parts, and alone they stay in their place', () => {
  assert.deepEqual(grouped(agent, store('a', [one]), store('b', [one, two])), [['a', 'b'], ['agent']]);
  assert.deepEqual(grouped(agent, store('a', [one])), [['agent'], ['a']]);
  assert.deepEqual(grouped(), []);
});

test('stores whose lists name a shared image differently stand together, as each store gets its own names', () => {
  assert.deepEqual(grouped(store('a', [one]), store('b', [{ ...one, names: ['quay.io/e/other:1'] }])), [['a', 'b']]);
});

test('stores are unpacked apart if a record or a layer would show the other list', () => {
  const listed = { ...one, image: { ...one.image, top: { ...one.image.top, digest: digestFor('list') } } };
  const signed = { ...one, signatures: [{ kind: 'gpg' as const, subject: one.image.manifest, files: [digestFor('message')] }] };
  const repacked = { ...two, image: imageOf('two', [], { layers: [layerFor('zstd base'), layerFor('two')], diffIds: two.image.diffIds }) };
  for (const other of [listed, signed, repacked]) {
    assert.deepEqual(grouped(store('a', [one, two]), store('b', [other])), [['a'], ['b']]);
  }
  // The same entries, in an order that makes another one the last to be written.
  assert.deepEqual(grouped(store('a', [one, listed]), store('b', [listed, one])), [['a'], ['b']]);
  assert.deepEqual(grouped(store('a', [one, listed]), store('b', [one, listed])), [['a', 'b']]);
});

test('a union has each reference once, with all its names, in the order in which it comes first', () => {
  const renamed = { ...one, names: ['quay.io/e/one:2', 'quay.io/e/one:1'] };
  assert.deepEqual(unionOf([[two], [renamed, two], [one]]), [two, renamed]);
  assert.deepEqual(unionOf([[one], [renamed]]), [{ ...one, names: ['quay.io/e/one:1', 'quay.io/e/one:2'] }]);
});
