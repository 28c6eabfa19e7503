import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { planCopies } from '../../../../agent/factory/compose/copy-plan.ts';
import type { NamedImage } from '../../../../agent/factory/compose/source-image.ts';
import { digestFor, named, sharingImages } from '../../../support/source-images.ts';

test('images wait for the first one that has a layer of theirs on the same ones below it', () => {
  const images = [
    named('quay.io/e/base:1', ['base']),
    named('quay.io/e/one:1', ['base', 'middle', 'one']),
    named('quay.io/e/two:1', ['base', 'middle', 'two']),
    named('quay.io/e/alone:1', ['middle']),
  ];
  assert.deepEqual(
    planCopies(images).map((act) => [act.named.reference, act.after]),
    [
      ['quay.io/e/base:1', []],
      ['quay.io/e/one:1', [0]],
      ['quay.io/e/two:1', [0, 1]],
      ['quay.io/e/alone:1', []],
    ],
  );
});

test('images of one config wait for each other, as they are one record of a store', () => {
  const config = digestFor('shared config');
  const images = [named('quay.io/e/one:1', ['a'], { config }), named('quay.io/e/two:1', ['b'], { config })];
  assert.deepEqual(
    planCopies(images).map((act) => act.after),
    [[], [0]],
  );
});

test('whatever is shared is brought by one image, and no image waits for a later one', () => {
  fc.assert(
    fc.property(sharingImages, (images) => {
      const steps = planCopies(images);
      assert.deepEqual(
        steps.map((act) => act.named),
        images,
      );
      for (const [index, act] of steps.entries()) {
        assert.ok(act.after.every((earlier) => earlier < index));
        for (const claim of claimsOf(act.named)) {
          const first = images.findIndex((image) => claimsOf(image).includes(claim));
          assert.ok(first === index || act.after.includes(first), `${index} brings what ${first} has`);
        }
      }
    }),
  );
});

function claimsOf({ image }: NamedImage): readonly string[] {
  return [image.config, ...image.diffIds.map((_, index) => image.diffIds.slice(0, index + 1).join())];
}
