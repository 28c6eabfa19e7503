import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findDangling } from '../../../agent/mount/dangling.ts';
import { readContainerRecords, readLayerRecords } from '../../../agent/storage/records.ts';

describe('the records of a storage', () => {
  let top: string;
  let location: { readonly graphroot: string; readonly runroot: string };
  before(async () => {
    top = await mkdtemp(join(tmpdir(), 'records-'));
    location = { graphroot: join(top, 'graph'), runroot: join(top, 'run') };
    const files = {
      'graph/overlay-layers/layers.json': [{ id: 'a' }, { id: 'b', parent: 'a' }],
      'graph/overlay-layers/volatile-layers.json': [
        { id: 'w1', parent: 'b' },
        { id: 'a', parent: 'wrong' },
      ],
      'run/overlay-layers/volatile-layers.json': [{ id: 'w2', parent: 'lost' }],
      'graph/overlay-containers/containers.json': [{ id: 'kept', layer: 'b' }],
      'graph/overlay-containers/volatile-containers.json': [{ id: 'pod', layer: 'w1' }],
      'run/overlay-containers/volatile-containers.json': [{ id: 'transient', layer: 'w2' }],
    };
    for (const [path, records] of Object.entries(files)) {
      await mkdir(dirname(join(top, path)), { recursive: true });
      await writeFile(join(top, path), JSON.stringify(records));
    }
  });
  after(async () => await rm(top, { recursive: true, force: true }));
  const idsOf = (records: readonly { readonly id: string }[]) => records.map(({ id }) => id);

  it('are those of the durable and of the volatile file, each id once, as its first record', async () => {
    assert.deepEqual(await readLayerRecords({ graphroot: location.graphroot }), [
      { id: 'a' },
      { id: 'b', parent: 'a' },
      { id: 'w1', parent: 'b' },
    ]);
    assert.deepEqual(idsOf(await readContainerRecords({ graphroot: location.graphroot })), ['kept', 'pod']);
  });

  it('are those of a transient storage, too, which keeps the volatile file in its runroot', async () => {
    assert.deepEqual(idsOf(await readLayerRecords(location)), ['a', 'b', 'w1', 'w2']);
    assert.deepEqual(idsOf(await readContainerRecords(location)), ['kept', 'pod', 'transient']);
  });

  it('say which volatile container dangles, and that a layer under one is in use', async () => {
    assert.deepEqual(await findDangling(location, []), {
      images: [],
      containers: [{ id: 'transient', names: [], layer: 'w2', title: 'transient' }],
      layers: [],
    });
  });
});
