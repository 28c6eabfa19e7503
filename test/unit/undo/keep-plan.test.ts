import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { imagesToKeep, type KeepFacts } from '../../../agent/undo/keep-plan.ts';

const NONE: ReadonlySet<string> = new Set();
/** A container on an image whose layers are all in the store. */
const FACTS: KeepFacts = {
  main: { images: [], layers: [{ id: 'w', parent: 'top' }], containers: [{ id: 'c1', names: ['web'], image: 'i', layer: 'w' }] },
  store: { images: [{ id: 'i', names: ['quay.io/a/b:1'], layer: 'top' }], layers: [{ id: 'base' }, { id: 'top', parent: 'base' }] },
  running: new Set(['w']),
  unlinked: NONE,
  begun: NONE,
};
const IMAGE = { id: 'i', names: ['quay.io/a/b:1'], containers: ['web'], layers: ['top', 'base'] };

describe('an image is copied out of the store image', () => {
  it('where a running container stands on its layers', () => assert.deepEqual(imagesToKeep(FACTS), [IMAGE]));

  it('once for all its containers', () => {
    const main = {
      ...FACTS.main,
      layers: [...FACTS.main.layers, { id: 'w2', parent: 'top' }],
      containers: [...FACTS.main.containers, { id: 'c2', image: 'i', layer: 'w2' }],
    };
    assert.deepEqual(imagesToKeep({ ...FACTS, main, running: new Set(['w', 'w2']) }), [{ ...IMAGE, containers: ['web', 'c2'] }]);
  });

  it('not where its container has ended', () => assert.deepEqual(imagesToKeep({ ...FACTS, running: NONE }), []));

  const whole: KeepFacts = { ...FACTS, main: { ...FACTS.main, layers: [...FACTS.main.layers, ...FACTS.store.layers] } };
  it('not where the main store has all its layers', () => assert.deepEqual(imagesToKeep(whole), []));
  it('where the main store has its layers, and a container names them by links of the store image', () =>
    assert.deepEqual(imagesToKeep({ ...whole, unlinked: new Set(['w']) }), [IMAGE]));
  it('where an earlier copy did not come to its end', () => assert.deepEqual(imagesToKeep({ ...whole, begun: new Set(['i']) }), [IMAGE]));

  it('with the names of both stores, without those of an earlier copy', () => {
    const images = [{ id: 'i', names: ['localhost/mine:1', 'localhost/prestage-agent/kept:i'], layer: 'top' }];
    assert.deepEqual(imagesToKeep({ ...FACTS, main: { ...FACTS.main, images } }), [
      { ...IMAGE, names: ['localhost/mine:1', 'quay.io/a/b:1'] },
    ]);
  });
});
