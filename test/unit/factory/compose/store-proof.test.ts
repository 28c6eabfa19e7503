import assert from 'node:assert/strict';
import { test } from 'node:test';
import { storeFaults } from '../../../../agent/factory/compose/store-proof.ts';
import { hexOf } from '../../../../agent/model/digest.ts';
import type { StoredImage } from '../../../../agent/storage/records.ts';
import { digestFor, imageOf } from '../../../support/source-images.ts';

const list = digestFor('list');
const image = imageOf('one', ['base'], { top: { digest: list, sizeBytes: 1, mediaType: 'x/y' } });
const named = { reference: 'quay.io/e/one:1', names: ['quay.io/e/one:1', 'quay.io/e/one:2'], image };
const stored: StoredImage = { id: hexOf(image.config), names: named.names, digests: [list, image.manifest], damage: [] };

test('a store that holds an image whole, by all its names and manifests, has no fault', () => {
  assert.deepEqual(storeFaults([named], { images: [stored], layers: new Set() }), []);
});

test('whatever a store lacks of an image, or has damaged, is a fault of its own', () => {
  const cases: readonly (readonly [readonly StoredImage[], readonly string[]])[] = [
    [[], [`quay.io/e/one:1: the store does not have the image ${hexOf(image.config)}`]],
    [[{ ...stored, damage: ['its layer x is not known'] }], ['quay.io/e/one:1: its layer x is not known']],
    [[{ ...stored, digests: [image.manifest] }], [`quay.io/e/one:1: the store does not have the manifest ${list}`]],
    [
      [{ ...stored, digests: [], names: ['quay.io/e/one:2'] }],
      [
        `quay.io/e/one:1: the store does not have the manifest ${list}`,
        `quay.io/e/one:1: the store does not have the manifest ${image.manifest}`,
        'quay.io/e/one:1: it does not have the name quay.io/e/one:1',
      ],
    ],
  ];
  for (const [images, faults] of cases) assert.deepEqual(storeFaults([named], { images, layers: new Set() }), faults);
});
