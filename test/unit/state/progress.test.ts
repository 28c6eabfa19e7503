import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { advance, describeActive, describeProgress, noProgress, type Progress, type RunEvent } from '../../../agent/state/progress.ts';

const MIB = 1024 * 1024;
const after = (...events: readonly RunEvent[]): Progress => events.reduce(advance, noProgress);
const planned: RunEvent = { kind: 'planned', images: 3, alreadyDone: 1, toLoad: 2, bytes: 4 * MIB };
const started: RunEvent = { kind: 'image-started', reference: 'a', bytes: 2 * MIB, attempt: 1 };
const error = { code: 'ERR_LOAD', message: 'm', remedy: 'r' } as const;

test('before anything is known, images are counted alone', () => {
  assert.equal(describeProgress(noProgress, 5), '0/0 images');
});

test('progress tells images, bytes, rate and time left', () => {
  const progress = after(planned, started, { kind: 'image-read', reference: 'a', bytesRead: MIB });
  assert.equal(describeProgress(progress, 1000), '1/3 images, 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3.0 s left');
});

test('before the first byte there is no time left to tell', () => {
  assert.equal(describeProgress(after(planned), 0), '1/3 images, 0 B of 4.0 MiB, 0 B/s');
  assert.equal(describeProgress(after(planned), 10), '1/3 images, 0 B of 4.0 MiB, 0 B/s');
});

test('an image that failed is counted as finished and named as not loaded', () => {
  const progress = after(planned, started, { kind: 'image-finished', reference: 'a', result: 'failed', bytes: 2 * MIB, error });
  assert.equal(describeProgress(progress, 1000), '2/3 images, 1 not loaded, 2.0 MiB of 4.0 MiB, 2.0 MiB/s, 1.0 s left');
});

test('an image at work is being read, then copied; a retry begins again', () => {
  const reading = after(started, { kind: 'image-read', reference: 'a', bytesRead: MIB });
  assert.deepEqual(reading.active.map(describeActive), ['reading 50 %']);
  const copying = advance(reading, { kind: 'image-copying', reference: 'a' });
  assert.deepEqual(copying.active.map(describeActive), ['copying into storage']);
  const retried = advance(copying, { kind: 'image-retried', reference: 'a', error, pauseMs: 1 });
  assert.deepEqual(retried.active.map(describeActive), ['reading 0 %']);
  assert.equal(describeActive({ reference: 'e', bytes: 0, bytesRead: 0, isCopying: false }), 'reading 0 %');
});

test('a second attempt replaces the first, and events of other images leave it alone', () => {
  const progress = after(started, started, { kind: 'image-read', reference: 'other', bytesRead: 9 }, { kind: 'phase', text: 'p' });
  assert.deepEqual([progress.active.length, progress.active[0]?.bytesRead, progress.phase], [1, 0, 'p']);
});

test('law: finished images never exceed those planned, whatever comes in between', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string(), { maxLength: 8 }), (references) => {
      const events = references.flatMap((reference): RunEvent[] => [
        { kind: 'image-started', reference, bytes: 1, attempt: 1 },
        { kind: 'image-finished', reference, result: 'loaded', bytes: 1 },
      ]);
      const progress = after(
        { kind: 'planned', images: references.length, alreadyDone: 0, toLoad: references.length, bytes: references.length },
        ...events,
      );
      assert.deepEqual([progress.finished, progress.active, progress.bytesFinished], [references.length, [], references.length]);
    }),
  );
});
