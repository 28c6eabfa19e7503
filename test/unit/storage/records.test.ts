import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Clock } from '../../../agent/host/clock.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { imageRecordsReader } from '../../../agent/storage/listed-images.ts';
import { inspectRecords, type StorageLocation } from '../../../agent/storage/records.ts';
import { readStoredLayers } from '../../../agent/storage/stored-layers.ts';

const idOf = (name: string): string => hexOf(digestOf(name));

interface Records extends AsyncDisposable {
  readonly location: StorageLocation;
  write(what: 'images' | 'layers', text: string): Promise<void>;
  writeImages(...names: readonly string[]): Promise<void>;
  writeLayers(...names: readonly string[]): Promise<void>;
}

/** A folder with the records of a storage alone. */
async function makeRecords(): Promise<Records> {
  const graphroot = await mkdtemp(join(tmpdir(), 'records-'));
  for (const what of ['images', 'layers']) await mkdir(join(graphroot, `overlay-${what}`));
  const write = async (what: string, text: string) => await writeFile(join(graphroot, `overlay-${what}/${what}.json`), text);
  return {
    location: { graphroot, runroot: graphroot },
    write,
    writeImages: async (...names) => await write('images', JSON.stringify(names.map((name) => ({ id: idOf(name), names: [name] })))),
    writeLayers: async (...names) =>
      await write('layers', JSON.stringify(names.map((name) => ({ id: idOf(name), 'diff-digest': digestOf(name) })))),
    [Symbol.asyncDispose]: async () => await rm(graphroot, { recursive: true }),
  };
}

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
    await using records = await makeRecords();
    const { clock } = testClock();
    const read = imageRecordsReader(records.location, { clock });
    await records.writeImages('a');
    const [first, second] = await Promise.all([read(), read()]);
    assert.equal(first, second);
    await records.writeImages('a', 'b');
    assert.deepEqual([namesOf(first), namesOf(await read())], [['a'], ['a', 'b']]);
  });

  it('are read no sooner than 20 times the time of the last reading later', async () => {
    await using records = await makeRecords();
    const { clock, waits } = testClock();
    const read = imageRecordsReader(records.location, { clock });
    await records.writeImages('a');
    await read();
    await read();
    // A reading takes 10 ms by this clock, and 10 ms have passed when it is asked again.
    assert.deepEqual(waits, [190]);
  });

  it('that cannot be read are an error of each who asks, and are tried again by the next', async () => {
    await using records = await makeRecords();
    const read = imageRecordsReader(records.location, testClock());
    await records.write('images', '[');
    await assert.rejects(read(), { code: 'ERR_STORAGE' });
    await records.writeImages('a');
    assert.deepEqual(namesOf(await read()), ['a']);
  });
});

describe('the layers that a run knows in storage', () => {
  it('are those of the records, and what the run adds, until the records are read again', async () => {
    await using records = await makeRecords();
    await records.writeLayers('base');
    const stored = await readStoredLayers(records.location);
    stored.add([{ digest: digestOf('added'), sizeBytes: 1, mediaType: '' }]);
    const known = () => ['base', 'added', 'later'].filter((name) => stored.has(digestOf(name)));
    await records.writeLayers('later');
    assert.deepEqual(known(), ['base', 'added']);
    await stored.refresh();
    assert.deepEqual(known(), ['later']);
  });
});

describe('the records of a storage', () => {
  it('whose layers stand on themselves are damage of their image, and no end without end', async () => {
    await using records = await makeRecords();
    await records.write('images', JSON.stringify([{ id: idOf('a'), names: ['a'], layer: idOf('top') }]));
    const layers = [
      { id: idOf('top'), parent: idOf('base') },
      { id: idOf('base'), parent: idOf('top') },
    ];
    await records.write('layers', JSON.stringify(layers));
    const { images } = await inspectRecords(records.location);
    assert.deepEqual(
      images.map(({ damage }) => damage),
      [[`its layer ${idOf('top')} is its own ancestor`]],
    );
  });
});
