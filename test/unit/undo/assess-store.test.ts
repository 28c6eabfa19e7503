import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { linuxHost } from '../../../agent/host/linux.ts';
import { STORE_PATH } from '../../../agent/model/places.ts';
import { assessStore, probeStore, type StoreFacts } from '../../../agent/undo/assess-store.ts';

const A = 'a'.repeat(64);
const B = 'b'.repeat(64);
const readable = { kind: 'readable' } as const;
const open = { sha256: A, image: '/run/data/store.squashfs' };
const missing = { code: 'ERR_PARTITION_MISSING', message: 'no partition "data" came up in 60 s', remedy: 'Look for the disk' } as const;

describe('the store of a node', () => {
  const intact: Readonly<Record<string, StoreFacts>> = {
    'is as the bundle wants it': { wanted: { sha256: A }, open, probe: readable },
    'is open, and its source is away for the moment': { failure: missing, open, probe: readable },
    'is open and was hashed': { wanted: { sha256: A }, open, probe: readable, check: { kind: 'intact' } },
    'has no store image to open, and none is open': { probe: readable },
  };
  for (const [what, facts] of Object.entries(intact))
    it(`stays where it ${what}`, () => assert.deepEqual(assessStore(facts), { kind: 'intact' }));

  it('is gone where its partition does not come and nothing is open', () =>
    assert.deepEqual(assessStore({ failure: missing, probe: readable }), {
      kind: 'heal',
      error: {
        code: 'ERR_STORE_GONE',
        message: 'the store image cannot be reached: no partition "data" came up in 60 s',
        remedy: 'Look for the disk',
      },
    }));

  it('is damaged where the image has another hash before it is open', () => {
    const failure = { code: 'ERR_STORE_DIGEST', message: 'store.squashfs has other bytes', remedy: 'Write it again' } as const;
    assert.deepEqual(assessStore({ wanted: { sha256: A }, failure, probe: readable }), {
      kind: 'heal',
      error: { code: 'ERR_STORE_DAMAGED', message: 'store.squashfs has other bytes', remedy: 'Write it again' },
    });
  });

  it('is damaged where it cannot be read, whatever else is known', () =>
    assert.deepEqual(
      assessStore({ wanted: { sha256: B }, open, probe: { kind: 'unreadable', path: '/store/overlay-images/images.json', reason: 'EIO' } }),
      {
        kind: 'heal',
        error: {
          code: 'ERR_STORE_DAMAGED',
          message: 'the store image /run/data/store.squashfs cannot be read: /store/overlay-images/images.json: EIO',
          remedy: 'Write the bundle to the partition again, then start the run again',
        },
      },
    ));

  it('is damaged where its bytes turn out to be others while it is open', () =>
    assert.deepEqual(
      assessStore({
        wanted: { sha256: A },
        open,
        probe: readable,
        check: { kind: 'damaged', fault: `has the sha256 ${B}, but its bundle says ${A}` },
      }),
      {
        kind: 'heal',
        error: {
          code: 'ERR_STORE_DAMAGED',
          message: `the store image /run/data/store.squashfs has the sha256 ${B}, but its bundle says ${A}`,
          remedy: 'Write the bundle to the partition again, then start the run again',
        },
      },
    ));

  it('is exchanged where the bundle has another image than the one that is open', () =>
    assert.deepEqual(assessStore({ wanted: { sha256: B }, open, probe: readable }), {
      kind: 'heal',
      error: {
        code: 'ERR_STORE_EXCHANGED',
        message: `the bundle has a store image with sha256 ${B}, but /run/data/store.squashfs with sha256 ${A} is open`,
        remedy: 'Start the run again to open the new store image; if the bundle should not have changed, write it again',
      },
    }));
});

describe('a look into the store', () => {
  const probe = async (files: Readonly<Record<string, string>>) => {
    const root = await mkdtemp(join(tmpdir(), 'probe-'));
    try {
      for (const [name, content] of Object.entries(files)) {
        await mkdir(join(root, STORE_PATH, name, '..'), { recursive: true });
        await writeFile(join(root, STORE_PATH, name), content);
      }
      const found = await probeStore(linuxHost({ root, env: {}, log: () => undefined }));
      return JSON.parse(JSON.stringify(found).replaceAll(join(root, STORE_PATH), ''));
    } finally {
      await rm(root, { recursive: true });
    }
  };
  const empty = { 'overlay-images/images.json': '[]', 'overlay-layers/layers.json': '[]' };

  it('finds an empty one readable', async () => assert.deepEqual(await probe(empty), { kind: 'readable' }));

  it('reads a small file of a layer', async () => {
    const layers = { ...empty, 'overlay-layers/layers.json': '[{"id":"one"},{"id":"two"}]' };
    assert.deepEqual(await probe({ ...layers, 'overlay/two/link': 'ABC' }), { kind: 'readable' });
    assert.deepEqual(await probe({ ...layers, 'overlay/two/link': '' }), {
      kind: 'unreadable',
      path: '/overlay/two/link',
      reason: 'it is empty',
    });
    assert.deepEqual(await probe(layers), {
      kind: 'unreadable',
      path: '/overlay/two/link',
      reason: 'it does not exist',
    });
  });

  it('says of records that they are none', async () => {
    assert.deepEqual(await probe({ ...empty, 'overlay-images/images.json': '{}' }), {
      kind: 'unreadable',
      path: '/overlay-images/images.json',
      reason: 'it does not hold a list of records',
    });
  });
});
