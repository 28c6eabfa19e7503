import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { inspectRecords, type StorageLocation } from '../../agent/extract/storage.ts';
import type { Clock } from '../../agent/host/clock.ts';
import { digestOf, hexOf } from '../../agent/model/digest.ts';
import { imageRecordsReader } from '../../agent/reconcile/listed-images.ts';
import { readStoredLayers } from '../../agent/reconcile/stored-layers.ts';

let location: StorageLocation;
beforeEach(async () => {
  const graphroot = await mkdtemp(join(tmpdir(), 'records-'));
  location = { graphroot, runroot: graphroot };
  for (const what of ['images', 'layers']) await mkdir(join(graphroot, `overlay-${what}`));
});
afterEach(async () => await rm(location.graphroot, { recursive: true }));

const idOf = (name: string): string => hexOf(digestOf(name));
const writeRecords = async (what: 'images' | 'layers', records: readonly object[]): Promise<void> =>
  await writeFile(join(location.graphroot, `overlay-${what}/${what}.json`), JSON.stringify(records));
const writeImages = async (...names: readonly string[]): Promise<void> =>
  await writeRecords(
    'images',
    names.map((name) => ({ id: idOf(name), names: [name] })),
  );
const writeLayers = async (...names: readonly string[]): Promise<void> =>
  await writeRecords(
    'layers',
    names.map((name) => ({ id: idOf(name), 'diff-digest': digestOf(name) })),
  );

describe('the image records of a storage that a run loads into', () => {
  /** Time goes on only where somebody waits, and with each look at the clock by 10 ms. */
  const testClock = () => {
    const waits: number[] = [];
    let nowMs = 0;
    const clock: Clock = {
      now: () => new Date(0),
      monotonicMs: () => (nowMs += 10),
      sleep: async (ms) => {
        waits.push(ms);
        nowMs += ms;
      },
    };
    return { clock, waits };
  };
  const namesOf = (images: readonly { readonly names: readonly string[] }[]) => images.flatMap(({ names }) => names);

  it('are read once for all who ask before it is begun, and again for whoever asks later', async () => {
    const { clock } = testClock();
    const read = imageRecordsReader(location, { clock });
    await writeImages('a');
    const [first, second] = await Promise.all([read(), read()]);
    assert.equal(first, second);
    await writeImages('a', 'b');
    assert.deepEqual([namesOf(first), namesOf(await read())], [['a'], ['a', 'b']]);
  });

  it('are read no sooner than 20 times the time of the last reading later', async () => {
    const { clock, waits } = testClock();
    const read = imageRecordsReader(location, { clock });
    await writeImages('a');
    await read();
    await read();
    // A reading takes 10 ms by this clock, and 10 ms have passed when it is asked again.
    assert.deepEqual(waits, [190]);
  });

  it('that cannot be read are an error of each who asks, and are tried again by the next', async () => {
    const read = imageRecordsReader(location, testClock());
    await writeFile(join(location.graphroot, 'overlay-images/images.json'), '[');
    await assert.rejects(read(), { code: 'ERR_STORAGE' });
    await writeImages('a');
    assert.deepEqual(namesOf(await read()), ['a']);
  });
});

describe('the layers that a run knows in storage', () => {
  it('are those of the records, and what the run adds, until the records are read again', async () => {
    await writeLayers('base');
    const stored = await readStoredLayers(location);
    stored.add([{ digest: digestOf('added'), sizeBytes: 1, mediaType: '' }]);
    const known = () => ['base', 'added', 'later'].filter((name) => stored.has(digestOf(name)));
    await writeLayers('later');
    assert.deepEqual(known(), ['base', 'added']);
    await stored.refresh();
    assert.deepEqual(known(), ['later']);
  });
});

describe('the records of a storage', () => {
  it('whose layers stand on themselves are damage of their image, and no end without end', async () => {
    await writeRecords('images', [{ id: idOf('a'), names: ['a'], layer: idOf('top') }]);
    await writeRecords('layers', [
      { id: idOf('top'), parent: idOf('base') },
      { id: idOf('base'), parent: idOf('top') },
    ]);
    const { images } = await inspectRecords(location);
    assert.deepEqual(
      images.map(({ damage }) => damage),
      [[`its layer ${idOf('top')} stands on itself`]],
    );
  });
});
