import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { danglingOf, isNothing, type StoreRecords, unfinishedOf } from '../../../agent/mount/dangling.ts';

/** Records of layers as `id<parent`, of images and containers as `id<layer`; an image with `!` at its end has no data of its own. */
function records(layers: readonly string[], images: readonly string[] = [], containers: readonly string[] = []): StoreRecords {
  const split = (text: string) => text.replace('!', '').split('<');
  return {
    layers: layers.map(split).map(([id = '', parent]) => (parent === undefined ? { id } : { id, parent })),
    images: images.map((text) => ({ id: split(text)[0] ?? '', layer: split(text)[1] ?? '', hasData: !text.endsWith('!') })),
    containers: containers.map(split).map(([id = '', layer = '']) => ({ id, layer, names: [id] })),
  };
}

const summary = (main: StoreRecords, ...additional: StoreRecords[]) => {
  const { images, containers, layers } = danglingOf(main, additional);
  return {
    images: images.map(({ id, reason }) => `${id}: ${reason}`),
    containers: containers.map(({ id }) => id),
    layers: layers.map(({ id, missing }) => `${id}<${missing}`),
  };
};
const NOTHING = { images: [], containers: [], layers: [] };

describe('what dangles in a main store', () => {
  const store = records(['base', 'top<base'], ['stored<top']);

  it('is nothing where every chain ends in it', () =>
    assert.deepEqual(summary(records(['a', 'b<a', 'w<b'], ['image<b'], ['container<w'])), NOTHING));

  it('is nothing where a chain goes on in an additional store', () =>
    assert.deepEqual(summary(records(['own<base', 'w<top'], ['x<own', 'y<top', 'stored<top!'], ['container<w']), store), NOTHING));

  it('is an image whose top layer, or one below it, no store has', () =>
    assert.deepEqual(summary(records(['own<base'], ['x<own', 'y<top'])), {
      ...NOTHING,
      images: ['x: no store has its layer base', 'y: no store has its layer top'],
    }));

  it('is an image whose manifest was in a store that is gone, though its layers are there', () =>
    assert.deepEqual(summary(records(['a'], ['tagged<a!'])), { ...NOTHING, images: ['tagged: no store has its manifest'] }));

  it('is a container on a lost layer, though its image was in the store alone', () =>
    assert.deepEqual(summary(records(['w<top'], [], ['container<w'])), { ...NOTHING, containers: ['container'] }));

  it('is the topmost of layers that nothing uses and whose parents are gone', () =>
    assert.deepEqual(summary(records(['one<base', 'two<one', 'whole'])), { ...NOTHING, layers: ['two<base'] }));

  it('is no image without layers, and a chain in a circle ends', () =>
    assert.deepEqual(summary(records(['a<b', 'b<a'], ['scratch<', 'x<a'])), NOTHING));
});

describe('what a load has left in a main store', () => {
  const blobs = new Set(['blob-of-b']);
  const store = (images: readonly string[], containers: readonly string[] = []): StoreRecords => {
    const plain = records(['a', 'b<a', 'c<b', 'other', 'lost<b', 'far<gone'], images, containers);
    return {
      ...plain,
      layers: plain.layers.map((layer) => ({ ...layer, 'compressed-diff-digest': `blob-of-${layer.id}` })),
      images: plain.images.map((image) => (image.id.startsWith('x') ? { ...image, names: [image.id] } : image)),
    };
  };
  const layersOf = (main: StoreRecords, wanted: ReadonlySet<string>) => unfinishedOf(main, wanted).layers;

  it('is the topmost layers of chains that nothing uses and that have one of its blobs', () => {
    assert.deepEqual(unfinishedOf(store([]), blobs), { images: [], layers: [{ id: 'c' }, { id: 'lost' }] });
    assert.deepEqual(layersOf(store(['x<c']), blobs), [{ id: 'lost' }]);
    assert.deepEqual(layersOf(store(['x<b'], ['container<c']), new Set(['blob-of-lost'])), [{ id: 'lost' }]);
    assert.deepEqual(layersOf(store([]), new Set(['blob-of-far'])), [{ id: 'far', missing: 'gone' }]);
  });

  it('is an image record without a name and a digest, whose layers have one of its blobs', () => {
    assert.deepEqual(unfinishedOf(store(['new<c', 'x<lost']), blobs), { images: [{ id: 'new' }], layers: [] });
    assert.deepEqual(unfinishedOf(store(['new<other', 'x<lost', 'x2<c']), blobs), { images: [], layers: [] });
    const { images, ...rest } = store(['new<c', 'x<lost']);
    const withDigest = images.map((image) => ({ ...image, digest: 'sha256:0' }));
    assert.deepEqual(unfinishedOf({ ...rest, images: withDigest }, blobs), { images: [], layers: [] });
  });

  it('is nothing where an image or a container stands on it, or where it has none of the blobs', () => {
    assert.deepEqual(layersOf(store(['x<c'], ['container<lost']), blobs), []);
    assert.deepEqual(layersOf(store(['x<c', 'x2<lost']), new Set(['blob-of-none'])), []);
  });
});

describe('any main store and any store beside it', () => {
  const id = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
  const link = fc.tuple(id, fc.option(id, { nil: undefined })).map(([own, parent]) => (parent === undefined ? own : `${own}<${parent}`));
  const layers = fc.uniqueArray(link, { selector: (text) => text[0], maxLength: 6 });
  const on = fc.uniqueArray(
    id.map((layer) => `x${layer}<${layer}`),
    { maxLength: 4 },
  );
  const any = fc.record({ layers, images: on, containers: on }).map((each) => records(each.layers, each.images, each.containers));

  it('has nothing that dangles once what dangled is away, layers from the top until none is left', () => {
    fc.assert(
      fc.property(any, any, (main, store) => {
        let left = main;
        for (let found = danglingOf(left, [store]); !isNothing(found); found = danglingOf(left, [store])) {
          const gone = new Set([...found.images, ...found.containers, ...found.layers].map((each) => each.id));
          const next = {
            images: left.images.filter((each) => !gone.has(each.id)),
            containers: left.containers.filter((each) => !gone.has(each.id)),
            layers: left.layers.filter((each) => !gone.has(each.id)),
          };
          assert.notDeepEqual(next, left);
          left = next;
        }
        assert.deepEqual(danglingOf(left, [store]), { images: [], containers: [], layers: [] });
      }),
    );
  });

  it('has no less that dangles when a store is taken away', () => {
    fc.assert(
      fc.property(any, any, (main, store) => {
        const withStore = danglingOf(main, [store]).images.map((image) => image.id);
        const without = new Set(danglingOf(main, []).images.map((image) => image.id));
        // A layer of the same id in both stores may have another parent in each: then the main store's counts.
        assert.deepEqual(
          withStore.filter((each) => !without.has(each)),
          [],
        );
      }),
    );
  });
});
