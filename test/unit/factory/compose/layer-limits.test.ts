import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deepestOf, layerWarnings, STORE_LAYERS } from '../../../../agent/factory/compose/layer-limits.ts';
import type { NamedImage } from '../../../../agent/factory/compose/source-image.ts';
import { named } from '../../../support/source-images.ts';

function deep(name: string, layers: number): NamedImage {
  return named(
    `quay.io/e/${name}:1`,
    Array.from({ length: layers }, (_, index) => `${name} ${index}`),
  );
}

test('short link names leave room for 66 layers and more in the options of an overlay', () => {
  assert.equal(STORE_LAYERS, 76);
});

test('images are warned of by what their nodes cannot do with them', () => {
  const images = [deep('a', 76), deep('b', 77), deep('c', 128), deep('d', 129), deep('e', 500), deep('f', 501)];
  const never = 'quay.io/e/f:1 (501 layers): no engine runs more than 500 layers, with any delivery; build the image with fewer';
  const old = [
    'quay.io/e/d:1 (129 layers), quay.io/e/e:1 (500 layers): engines before OpenShift 4.13 run at most 128 layers, with any delivery',
    'quay.io/e/b:1 (77 layers), quay.io/e/c:1 (128 layers): engines before OpenShift 4.13 run at most 76 layers from a mounted store image; let such nodes extract it (--payload oci)',
  ];
  assert.deepEqual(layerWarnings(images, '4.13.0', true), [never]);
  assert.deepEqual(layerWarnings(images, '4.12.8', true), [never, ...old]);
  assert.deepEqual(layerWarnings(images, '', true), [never, ...old]);
  assert.deepEqual(layerWarnings(images, '', false), [never, old[0]]);
  assert.deepEqual(layerWarnings(images.slice(0, 1), '', true), []);
});

test('a warning names a few images and counts the others', () => {
  const many = Array.from({ length: 7 }, (_, index) => deep(`x${index}`, 501));
  assert.match(
    layerWarnings(many, '5.0.0', false)[0] ?? '',
    /^quay\.io\/e\/x0:1 \(501 layers\), .*x4:1 \(501 layers\), and 2 more: no engine/,
  );
});

test('the deepest image is the first of those with the most layers', () => {
  const [one, two, three] = [deep('a', 3), deep('b', 9), deep('c', 9)];
  assert.equal(deepestOf([one, two, three]), two);
  assert.equal(deepestOf([]), undefined);
});
