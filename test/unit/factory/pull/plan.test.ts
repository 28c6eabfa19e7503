import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { wantedImages } from '../../../../agent/factory/pull/lists.ts';
import { mergeEntries } from '../../../../agent/factory/pull/oci-target.ts';
import { planPull, startOrder } from '../../../../agent/factory/pull/plan.ts';
import { advancePull, describePull, noPullProgress, pullLine } from '../../../../agent/factory/pull/progress.ts';
import type { ResolvedImage } from '../../../../agent/factory/pull/resolve.ts';
import { createClaims } from '../../../../agent/factory/shared/claims.ts';
import { pauseBefore, withRetries } from '../../../../agent/host/retry.ts';
import { type Digest, digestOf } from '../../../../agent/model/digest.ts';
import { parseReference } from '../../../../agent/model/reference.ts';
import { thrownBy } from '../../../support/thrown.ts';

/** An image with blobs of these names; a blob's size is the length of its name. */
function image(text: string, blobs: readonly string[]): ResolvedImage {
  const bytes = Buffer.from('{}');
  const top = { digest: digestOf(text), bytes, manifest: { kind: 'index', instances: [] } } as const;
  return {
    listed: { text, reference: parseReference(text), line: 1, archiveName: text },
    reference: text,
    top,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests: [top],
    absent: [],
    blobs: blobs.map((name) => ({ digest: digestOf(name), sizeBytes: name.length, mediaType: '' })),
  };
}

describe('the plan of a pull', () => {
  it('fetches each missing blob for one image, and keeps an image whose blobs are there', () => {
    const images = [image('q.io/a:1', ['base', 'a']), image('q.io/b:1', ['base', 'bb']), image('q.io/c:1', ['there'])];
    const plan = planPull(images, new Set([digestOf('there')]));
    assert.deepEqual(
      plan.steps.map(({ kind, image: { reference }, sizeBytes, fetchBytes }) => [kind, reference, sizeBytes, fetchBytes]),
      [
        ['fetch', 'q.io/a:1', 5, 5],
        ['fetch', 'q.io/b:1', 6, 2],
        ['keep', 'q.io/c:1', 5, 0],
      ],
    );
    assert.deepEqual([plan.fetchBytes, plan.keptBytes], [7, 5]);
    assert.deepEqual(
      startOrder(plan.steps).map((act) => act.image.reference),
      ['q.io/a:1', 'q.io/b:1', 'q.io/c:1'],
    );
  });

  it('counts every blob once, whatever is shared and whatever is there', () => {
    const names = fc.uniqueArray(fc.constantFrom('a', 'bb', 'ccc', 'dddd', 'eeeee', 'ffffff'));
    fc.assert(
      fc.property(fc.array(names, { maxLength: 6 }), names, (blobs, there) => {
        const images = blobs.map((own, index) => image(`q.io/i:${index}`, own));
        const plan = planPull(images, new Set(there.map(digestOf)));
        const all = new Set(blobs.flat());
        const lengths = (wanted: readonly string[]) => wanted.reduce((sum, name) => sum + name.length, 0);
        assert.equal(plan.fetchBytes, lengths([...all].filter((name) => !there.includes(name))));
        assert.equal(plan.keptBytes, lengths([...all].filter((name) => there.includes(name))));
        assert.deepEqual(
          plan.steps.map(({ kind }) => kind),
          blobs.map((own) => (own.every((name) => there.includes(name)) ? 'keep' : 'fetch')),
        );
      }),
    );
  });
});

describe('the claims on blobs', () => {
  const blob = digestOf('blob');

  it('let one bring a blob, and the others wait until it is there', async () => {
    const there = new Set<Digest>();
    const claims = createClaims<string>((digest) => there.has(digest));
    assert.equal(await claims.claim(blob, 'one'), true);
    assert.equal(await claims.claim(blob, 'one'), true);
    const waiting = claims.claim(blob, 'two');
    there.add(blob);
    claims.fulfil(blob);
    assert.equal(await waiting, false);
  });

  it('give a blob to one of those who wait where its owner ends without it', async () => {
    const claims = createClaims<string>(() => false);
    await claims.claim(blob, 'one');
    const [two, three] = [claims.claim(blob, 'two'), claims.claim(blob, 'three')];
    claims.release('one');
    assert.equal(await two, true);
    assert.equal(await Promise.race([three, Promise.resolve('waits')]), 'waits');
    claims.release('three');
    claims.release('two');
    assert.equal(await three, false);
    assert.equal(await claims.claim(blob, 'four'), true);
  });
});

describe('the retries of a pull', () => {
  const clock = (slept: number[]) => ({
    now: () => new Date(0),
    monotonicMs: () => 0,
    sleep: async (ms: number) => void slept.push(ms),
  });
  const options = (slept: number[], retries: number) => ({
    clock: clock(slept),
    retries,
    isRetryable: (error: unknown) => error === 'again',
    signal: new AbortController().signal,
    onRetry: () => undefined,
  });

  it('double their pause up to 30 s', () => {
    assert.deepEqual(
      [1, 2, 3, 4, 5, 6, 20].map((failures) => pauseBefore(failures)),
      [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000],
    );
  });

  it('end with the last error when they are used up', async () => {
    const slept: number[] = [];
    await assert.rejects(
      withRetries(options(slept, 2), () => Promise.reject('again')),
      (error) => error === 'again',
    );
    assert.deepEqual(slept, [1000, 2000]);
  });

  it('are not spent on what cannot change', async () => {
    const slept: number[] = [];
    await assert.rejects(
      withRetries(options(slept, 2), () => Promise.reject('for good')),
      (error) => error === 'for good',
    );
    assert.deepEqual(slept, []);
  });
});

describe('the lists of a pull', () => {
  const list = (where: string, ...lines: readonly string[]) => ({ where, text: lines.map((line) => `${line}\n`).join('') });
  const digest = digestOf('x');

  it('keep their names and text as archives, or take the name of a stage', () => {
    const lists = [list('/l/ocp-images-4.14.txt', 'q.io/a:1'), { where: '/l/more.txt', text: 'q.io/b:1' }];
    const kept = wantedImages({ lists, format: 'archives' });
    assert.deepEqual(
      [...kept.lists],
      [
        ['ocp-images-4.14.txt', 'q.io/a:1\n'],
        ['more.txt', 'q.io/b:1\n'],
      ],
    );
    assert.deepEqual(kept.notices, [
      'the node does not read more.txt as a list, only ai-images.txt, initial-images*.txt, ocp-images.txt, ocp-images-*.txt, ocp_images.txt*; give --stage',
    ]);
    assert.deepEqual(
      [...wantedImages({ lists, format: 'archives', stage: 'discovery' }).lists],
      [['ai-images.txt', 'q.io/a:1\nq.io/b:1\n']],
    );
  });

  it('are kept in a layout if a stage has lists of their names, those of one name as one', () => {
    const lists = [list('/a/ocp-images.txt', 'q.io/a:1'), list('/l/index.json', 'q.io/b:1'), list('/b/ocp-images.txt', 'q.io/c:1')];
    const { lists: kept, notices } = wantedImages({ lists, format: 'oci' });
    assert.deepEqual([...kept], [['ocp-images.txt', 'q.io/a:1\nq.io/c:1\n']]);
    assert.deepEqual(notices, [
      'index.json is not kept in the folder, because no stage has a list of this name (ai-images.txt, initial-images*.txt, ocp-images.txt, ocp-images-*.txt, ocp_images.txt*): give --stage, or name the list when you build',
    ]);
    assert.deepEqual(
      [...wantedImages({ lists, format: 'oci', stage: 'installed' }).lists],
      [['ocp-images.txt', 'q.io/a:1\nq.io/b:1\nq.io/c:1\n']],
    );
  });

  it('are refused as archives where two images would have one archive, with all of them', () => {
    const lists = [list('l', 'q.io/a/x:1', 'q.io/b/x:1', `q.io/a/y@${digest}`, `q.io/b/y@${digest}`)];
    assert.deepEqual(
      thrownBy(() => wantedImages({ lists, format: 'archives' })),
      {
        code: 'ERR_ARCHIVE_COLLISION',
        message: 'q.io/a/x:1 and q.io/b/x:1 would have the same archive name x_1.tgz',
        remedy: 'List them by digest, pull them into separate folders, or pull with --format oci',
      },
    );
    assert.equal(wantedImages({ lists, format: 'oci' }).images.length, 4);
  });

  it('are refused where they are empty, or have one name', () => {
    assert.equal(thrownBy(() => wantedImages({ lists: [list('l', '# nothing')], format: 'oci' })).code, 'ERR_LIST');
    const twice = [list('/a/l.txt', 'q.io/a:1'), list('/b/l.txt', 'q.io/b:1')];
    assert.equal(thrownBy(() => wantedImages({ lists: twice, format: 'archives' })).code, 'ERR_USAGE');
  });
});

describe('the index after a pull', () => {
  const entry = (reference: string, content: string) => ({ reference, digest: digestOf(content), sizeBytes: 1, mediaType: 'm' });

  it('keeps what others pulled, has its own in the order of the list, and a moved tag once', () => {
    const earlier = [entry('old', '1'), entry('moved', '1'), entry('failed', '1'), entry('', 'nameless')];
    const pulled = new Map([entry('moved', '2'), entry('new', '1')].map((one) => [one.reference, one]));
    assert.deepEqual(mergeEntries(earlier, ['new', 'moved', 'failed', 'never'], pulled), [
      entry('old', '1'),
      entry('', 'nameless'),
      entry('new', '1'),
      entry('moved', '2'),
      entry('failed', '1'),
    ]);
  });
});

describe('the progress of a pull', () => {
  it('has totals, rate and what is left', () => {
    const events = [
      { kind: 'planned', images: 3, fetchBytes: 4 * 2 ** 20, keptBytes: 0 },
      { kind: 'image-started', reference: 'a' },
      { kind: 'bytes', bytes: 2 ** 20 },
      { kind: 'image-finished', reference: 'a', result: 'failed' },
      { kind: 'image-started', reference: 'b' },
    ] as const;
    const progress = events.reduce(advancePull, noPullProgress);
    assert.equal(describePull(progress, 2000), '1/3 images, 1 failed, 1.0 MiB of 4.0 MiB, 512.0 KiB/s, 6.0 s left');
    assert.deepEqual([progress.active, progress.phase], [['b'], 'fetching']);
  });

  it('has the phase of what it does, also if nothing has to be fetched', () => {
    const checking = advancePull(noPullProgress, { kind: 'phase', text: 'checking existing files' });
    assert.equal(advancePull(checking, { kind: 'planned', images: 1, fetchBytes: 0, keptBytes: 9 }).phase, 'writing');
  });

  it('has no line for an image that was not pulled because the command was interrupted', () => {
    const error = { code: 'ERR_INTERRUPTED', message: 'the command was interrupted', remedy: 'Run the command again' } as const;
    assert.equal(pullLine({ kind: 'image-finished', reference: 'a', result: 'skipped', error }, noPullProgress), undefined);
  });
});
