import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { type Exec, execOnLinux, output } from '../../../agent/host/exec.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { DATA_PATH, RAM_PATH, STORE_PATH, STORE_RECORD } from '../../../agent/model/places.ts';
import type { Placement } from '../../../agent/model/store.ts';
import { closeStore } from '../../../agent/mount/close-store.ts';
import { verityDevice } from '../../../agent/mount/mount-argv.ts';
import { readOpenStore } from '../../../agent/mount/store-record.ts';
import { storesUnavailable } from '../../support/build.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { makeStoreBundle, makeStoreRoot, type StoreBundle, type StoreRoot } from '../../support/store-bundle.ts';
import { OLD_CRYPTSETUP, verityStandIn } from '../../support/verity-stand-in.ts';

inOwnMounts(import.meta.url);

const unavailable = storesUnavailable();
const PLACES = { partition: DATA_PATH, ram: RAM_PATH } as const;

/** What keeps a step of a closing from being done, until it is disposed. */
type Obstacle = (node: StoreRoot) => Promise<AsyncDisposable>;

/** A file that somebody reads keeps its file system mounted. */
function reading(file: string): Obstacle {
  return async (node) => await open(node.path(file));
}

/** A file on which something is mounted cannot be removed. */
function mountedOver(file: string): Obstacle {
  return async (node) => {
    const path = node.path(file);
    await output(execOnLinux, 'mount', ['--bind', path, path]);
    return { [Symbol.asyncDispose]: async () => void (await output(execOnLinux, 'umount', ['--lazy', path])) };
  };
}

describe('a store that cannot be closed', () => {
  let work: string;
  let first: StoreBundle;
  let second: StoreBundle;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'close-'));
    if (unavailable !== undefined) return;
    first = await makeStoreBundle(join(work, 'first'), 2);
    second = await makeStoreBundle(join(work, 'second'), 3);
  });
  after(async () => await rm(work, { recursive: true, force: true }));
  const onNode = (what: string, act: (node: StoreRoot) => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using node = await makeStoreRoot(work);
      await act(node);
    });
  };
  const seen = async (node: StoreRoot) => ({
    record: await readOpenStore(node.host),
    images: await node.listed(),
    mounts: await node.mounts(),
  });

  const OBSTACLES: readonly (readonly [string, Placement, Obstacle, RegExp])[] = [
    [
      'the store is read',
      'disk',
      reading(join(STORE_PATH, 'overlay-images/images.json')),
      /store cannot be unmounted, because it is in use: .*target is busy/,
    ],
    [
      'the partition is read',
      'partition',
      reading(join(DATA_PATH, 'store/installed.squashfs')),
      /data cannot be unmounted, because it is in use: .*target is busy/,
    ],
    [
      'the memory is read',
      'ram',
      reading(join(RAM_PATH, 'store.squashfs')),
      /ram cannot be unmounted, because it is in use: .*target is busy/,
    ],
    ...(['disk', 'partition', 'ram'] as const).map(
      (placement) =>
        [
          'the record cannot be removed',
          placement,
          mountedOver(STORE_RECORD),
          /^the store at .* cannot be closed, and stays open: .*store\.json cannot be removed: it is in use$/,
        ] as const,
    ),
  ];
  for (const [what, placement, obstacle, message] of OBSTACLES) {
    onNode(
      `is put back as it was, record and images and mounts, if ${what} (${placement}), and closes without the obstacle`,
      async (node) => {
        await node.open(first, { placement });
        const before = await seen(node);
        {
          await using _obstacle = await obstacle(node);
          for (const close of [() => node.open(second, { placement }), () => closeStore(node.host, { act: plainAct, force: false })]) {
            const error = errorRecord(await close().catch((thrown: unknown) => thrown));
            assert.equal(error.code, 'ERR_STORE_BUSY', error.message);
            assert.match(error.message, message);
          }
          const now = await seen(node);
          assert.deepEqual({ ...now, mounts: now.mounts.filter((mount) => mount !== STORE_RECORD) }, before);
        }
        const opened = await node.open(second, { placement });
        assert.deepEqual([opened.wasOpen, opened.sha256, await node.listed()], [false, second.image.sha256, 3]);
      },
    );
  }

  for (const placement of ['partition', 'ram'] as const) {
    onNode(
      `leaves an empty store, no mount and another error than ERR_STORE_BUSY, if it cannot be put back (${placement})`,
      async (node) => {
        await node.open(first, { placement });
        await using _obstacle = await open(
          node.path(join(PLACES[placement], placement === 'ram' ? 'store.squashfs' : 'store/installed.squashfs')),
        );
        const exec: Exec = async (file, args, options) =>
          file === 'mount' ? { stdout: '', stderr: 'mount: no room', exitCode: 32 } : await execOnLinux(file, args, options);
        const error = errorRecord(
          await closeStore({ ...node.host, exec }, { act: plainAct, force: false }).catch((thrown: unknown) => thrown),
        );
        assert.equal(error.code, 'ERR_STORE_MOUNT');
        assert.match(
          error.message,
          /could not be closed completely: .* target is busy\.; and it cannot be opened again: .* mount: no room$/,
        );
        assert.deepEqual(await seen(node), { record: undefined, images: 0, mounts: [] });
      },
    );
  }

  onNode('is put back through a device of dm-verity that does not close, and through one that has to be opened again', async (node) => {
    await using verity = await verityStandIn(node.host);
    const { host } = verity;
    const close = async () => errorRecord(await closeStore(host, { act: plainAct, force: false }).catch((thrown: unknown) => thrown));
    await node.open(first, { placement: 'partition', host });
    const before = await seen(node);
    assert.deepEqual([before.record?.trust, before.images, verity.opened()], ['verity', 2, 1]);
    verity.setClosing(false);
    const busy = await close();
    assert.match(
      busy.message,
      /^the store at .* \(\/dev\/mapper\/prestage-installed\) cannot be closed, because containers use it: Device .* is still in use\.$/,
    );
    assert.deepEqual([busy.code, await seen(node), verity.opened()], ['ERR_STORE_BUSY', before, 1]);
    verity.setClosing(true);
    {
      await using _obstacle = await open(node.path(join(DATA_PATH, 'store/installed.squashfs')));
      const again = await close();
      assert.deepEqual([again.code, await seen(node), verity.opened()], ['ERR_STORE_BUSY', before, 2], again.message);
    }
    await closeStore(host, { act: plainAct, force: false });
    assert.deepEqual(await seen(node), { record: undefined, images: 0, mounts: [] });
  });

  onNode('is out of sight when that is forced, though its device of dm-verity does not close', async (node) => {
    await using verity = await verityStandIn(node.host);
    await node.open(first, { placement: 'partition', host: verity.host });
    verity.setClosing(false);
    await closeStore(verity.host, { act: plainAct, force: true });
    assert.deepEqual(await seen(node), { record: undefined, images: 0, mounts: [] });
    assert.match(
      node.messages.join('\n'),
      /warning: \/dev\/mapper\/prestage-installed cannot be closed: Device .* is still in use\.; Device .* is still in use\./,
    );
    verity.setClosing(true);
    await closeStore(verity.host, { act: plainAct, force: true });
  });

  for (const [cryptsetup, deferred] of [
    ['2.7.0', ['veritysetup close --deferred prestage-installed']],
    [OLD_CRYPTSETUP, ['veritysetup close --deferred prestage-installed', 'dmsetup remove --deferred prestage-installed']],
  ] as const) {
    onNode(`goes with its last user if that is forced, also by cryptsetup ${cryptsetup}, and is not opened again`, async (node) => {
      await using verity = await verityStandIn(node.host, cryptsetup);
      const { host, closings } = verity;
      await node.open(first, { placement: 'partition', host });
      await closeStore(host, { act: plainAct, force: true });
      assert.deepEqual(closings, ['veritysetup close prestage-installed'], 'nothing uses it, so nothing is put off');
      await node.open(first, { placement: 'partition', host });
      verity.setClosing('deferred');
      closings.length = 0;
      await closeStore(host, { act: plainAct, force: true });
      assert.deepEqual(closings, ['veritysetup close prestage-installed', ...deferred]);
      assert.deepEqual(await seen(node), { record: undefined, images: 0, mounts: [] });
      assert.equal(existsSync(verityDevice('installed')), false);
      assert.equal(verity.opened(), 2, 'opened twice by the test, and never by closing');
      assert.doesNotMatch(node.messages.join('\n'), /does not close/);
    });
  }
});
