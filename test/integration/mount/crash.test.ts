import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ActName } from '../../../agent/host/acts.ts';
import { execOnLinux } from '../../../agent/host/exec.ts';
import { DATA_PATH, DISK_COPY_PATH, RAM_PATH, STORE_PATH } from '../../../agent/model/places.ts';
import type { Placement } from '../../../agent/model/store.ts';
import { readOpenStore } from '../../../agent/mount/store-record.ts';
import { storeUndoSteps } from '../../../agent/mount/undo-store.ts';
import { storesUnavailable } from '../../support/build.ts';
import { inLane, sidesOf } from '../../support/crash/sides.ts';
import type { CrashRequest } from '../../support/open-store.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { makeStoreBundle, makeStoreRoot, namesIn, type StoreBundle, type StoreRoot } from '../../support/store-bundle.ts';

inOwnMounts(import.meta.url);

const unavailable = storesUnavailable();
const PROGRAM = join(import.meta.dirname, '../../support/open-store.ts');

const OPENING: Readonly<Record<Placement, readonly ActName[]>> = {
  partition: ['make-empty-store', 'bind-data', 'record-store', 'mount-store'],
  ram: ['mount-ram', 'copy-store', 'record-store', 'mount-store'],
  disk: ['copy-store', 'record-store', 'mount-store'],
};
const CLOSING: Readonly<Record<Placement, readonly ActName[]>> = {
  partition: ['unmount-store', 'forget-store', 'unmount-data'],
  ram: ['unmount-store', 'forget-store', 'unmount-ram'],
  disk: ['unmount-store', 'forget-store'],
};
const MOUNTS: Readonly<Record<Placement, readonly string[]>> = {
  partition: [DATA_PATH, STORE_PATH],
  ram: [RAM_PATH, STORE_PATH],
  disk: [STORE_PATH],
};
const pointsOf = (steps: readonly ActName[]): readonly string[] => steps.flatMap((name) => sidesOf(name).map((side) => `${side}:${name}`));
const PLACEMENTS = ['partition', 'ram', 'disk'] as const;

describe('an agent that is killed', () => {
  let work: string;
  let bundle: StoreBundle;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mount-crash-'));
    if (unavailable === undefined) bundle = await makeStoreBundle(work, 2);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  /** Kills an agent at a point, and expects another to come to the same end, and a release to leave nothing. */
  const killed = async (node: StoreRoot, act: CrashRequest['wanted'], placement: Placement, point: string): Promise<void> => {
    const { image, directory } = bundle;
    const request: CrashRequest = { wanted: act, root: node.host.root, point, image, bundleDirectory: directory, placement };
    const died = await execOnLinux(process.execPath, [PROGRAM, JSON.stringify(request)]);
    assert.equal(died.exitCode, 128 + 9, `the act was not reached: ${died.stderr}`);
  };
  const onNode = (what: string, act: (node: StoreRoot) => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using node = await makeStoreRoot(work);
      await act(node);
    });
  };

  for (const placement of PLACEMENTS) {
    for (const point of inLane(pointsOf(OPENING[placement]), 2, placement)) {
      onNode(`${point.replace(':', ' ')} (${placement}) leaves what the next one opens`, async (node) => {
        await killed(node, 'open', placement, point);
        const isRecorded = (await readOpenStore(node.host)) !== undefined;
        assert.equal(isRecorded, point === 'after:mount-store');
        const opened = await node.open(bundle, { placement });
        assert.deepEqual([opened.wasOpen, await node.mounts(), await node.listed()], [isRecorded, MOUNTS[placement], 2]);
        const copies = placement === 'disk' ? [`${bundle.image.sha256}.squashfs`] : [];
        assert.deepEqual(await namesIn(node.path(DISK_COPY_PATH)), copies);
      });
      // Before a step is after the step before it.
      if (point.startsWith('after:'))
        onNode(`${point.replace(':', ' ')} (${placement}) leaves what a release takes away`, async (node) => {
          await killed(node, 'open', placement, point);
          for (const { run } of await storeUndoSteps(node.host)) await run();
          assert.deepEqual([await node.mounts(), await storeUndoSteps(node.host)], [[], []]);
          assert.deepEqual(
            [
              (await namesIn(node.path('/run/prestage-agent'))).filter((name) => !name.startsWith('check.lock')),
              await namesIn(node.path('/var/lib/prestage-agent')),
            ],
            [[], []],
          );
        });
    }
    for (const point of inLane(pointsOf(CLOSING[placement]), 2, placement)) {
      onNode(`${point.replace(':', ' ')} (${placement}) leaves what can be closed and opened again`, async (node) => {
        await node.open(bundle, { placement });
        await killed(node, 'close', placement, point);
        assert.equal((await node.open(bundle, { placement })).wasOpen, point === 'before:unmount-store');
        assert.deepEqual([await node.mounts(), await node.listed()], [MOUNTS[placement], 2]);
      });
    }
  }
});
