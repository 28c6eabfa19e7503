import assert from 'node:assert/strict';
import { copyFile, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { MadeImage } from '../../support/images.ts';
import { makeStoreFixture, openStoreNode, STORE, type StoreFixture, type StoreNode } from '../../support/store-node.ts';

const MODULES = ['undo/heal.ts', 'undo/assess-store.ts'];

describe('a node that has to go on without its store image', () => {
  let work: string;
  let fixture: StoreFixture;
  let stored: MadeImage;
  let onTop: MadeImage;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'heal-'));
    fixture = await makeStoreFixture(work, ({ images }) => [images.release, images.oci]);
    ({ oci: stored, whiteouts: onTop } = fixture.set.images);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const heal = async (node: StoreNode) =>
    await node.evaluate(
      MODULES,
      `await (async () => {
        const error = { code: 'ERR_STORE_GONE', message: 'no partition came up', remedy: 'Look for the disk' };
        let mirror = 'runs';
        const done = await healNode(host, { location, error, act, stopMirror: async () => { mirror = 'stopped'; } });
        return { done, mirror, warnings: messages.length };
      })()`,
    );
  const probe = async (node: StoreNode, facts = '') =>
    await node.evaluate(MODULES, `assessStore({ probe: await probeStore(host) ${facts} })`);

  it('has a valid empty store, no dangling record and no mirror', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(onTop);
    // The id of a lowest layer is the digest of its unpacked bytes.
    const base = onTop.instances[0]?.layers[0]?.diffId.replace('sha256:', '');
    assert.deepEqual(await heal(node), {
      done: [`removed image ${onTop.reference} (no store has its layer ${base})`],
      mirror: 'stopped',
      warnings: 2,
    });
    assert.deepEqual([await node.images(), await node.output('ls', [join(STORE, 'overlay-images')])], [[], 'images.json\nimages.lock']);
    assert.deepEqual(await heal(node), { done: [], mirror: 'stopped', warnings: 1 });
  });

  it('is healed after a boot that brought neither store nor directory of one', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(onTop);
    await node.loseStore();
    await node.output('rm', ['-r', STORE]);
    assert.notEqual((await node.podman('images')).exitCode, 0);
    await heal(node);
    assert.deepEqual(await node.images(), []);
  });

  it('is healed while a container still uses the store image', async () => {
    await using node = await openStoreNode(fixture);
    await node.startContainer(stored.reference, 'web');
    const user = node.start('sh', ['-c', `cd ${STORE} && exec sleep 60`]);
    await node.output('sh', ['-c', `until fuser -m ${STORE} >/dev/null 2>&1; do sleep 0.05; done`]);
    const { done } = Object(await heal(node));
    assert.deepEqual(done, ['removed container web, which was running']);
    assert.deepEqual([await node.images(), (await node.exec('findmnt', [STORE])).stdout], [[], '']);
    user.kill();
  });

  it('knows a store image whose blocks cannot be read from one that can', async () => {
    const damaged = { ...fixture, image: join(work, 'damaged.squashfs') };
    await copyFile(fixture.image, damaged.image);
    {
      await using node = await openStoreNode(fixture);
      assert.deepEqual(await probe(node), { kind: 'intact' });
    }
    await using node = await openStoreNode(damaged);
    const file = await open(damaged.image, 'r+');
    // Data lies between the superblock and the inode table. Source: Linux, Documentation/filesystems/squashfs.rst; squashfs_fs.h.
    const superblock = Buffer.alloc(96);
    await file.read(superblock, 0, 96, 0);
    const dataBytes = Number(superblock.readBigUInt64LE(64)) - 96;
    await file.write(Buffer.alloc(dataBytes, 0xff), 0, dataBytes, 96);
    await file.close();
    await node.output('sh', ['-c', `umount ${STORE}; mount -t squashfs -o loop,ro ${damaged.image} ${STORE}`]);
    const verdict = Object(await probe(node, `, open: { sha256: 'x', image: '/image' }`));
    assert.deepEqual([verdict.kind, verdict.error.code], ['heal', 'ERR_STORE_DAMAGED']);
    assert.match(verdict.error.message, /^the store image \/image cannot be read: .*: its disk reports an error \(EIO\)$/);
  });
});
