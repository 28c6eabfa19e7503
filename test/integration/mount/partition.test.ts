import assert from 'node:assert/strict';
import { constants } from 'node:fs';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { mountReadOnly } from '../../../agent/host/mounts.ts';
import { closeStore } from '../../../agent/mount/close-store.ts';
import { PARTITION_TARGET } from '../../../agent/partition/open.ts';
import { storesUnavailable } from '../../support/build.ts';
import { copyToDisk, disksUnavailable, makeDisk, mountPointsOf, type TestDisk } from '../../support/disk.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { loopsBelow, makeStoreBundle, makeStoreRoot, type StoreBundle, type StoreRoot, storeImageOf } from '../../support/store-bundle.ts';

inOwnMounts(import.meta.url);

describe('the partition of a store image', () => {
  let work: string;
  let disk: TestDisk | undefined;
  let unavailable: string | undefined;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mount-partition-'));
    unavailable = storesUnavailable() ?? (await disksUnavailable());
    if (unavailable !== undefined) return;
    const { directory } = await makeStoreBundle(join(work, 'bundle'), 2);
    disk = await makeDisk({ directory: work, label: 'data', partitionMiB: 320 });
    await copyToDisk(disk, work, directory);
  });
  after(async () => {
    await disk?.[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });

  /** Opens the partition, hands over the bundle on it, and gives the partition back, as a run does. */
  const onPartition = (
    what: string,
    use: (of: { node: StoreRoot; bundle: StoreBundle }) => Promise<void>,
    then: (of: { node: StoreRoot; disk: TestDisk }) => Promise<void>,
  ): void => {
    it(what, async (t) => {
      if (unavailable !== undefined || disk === undefined) return t.skip(unavailable ?? 'there is no disk');
      await using node = await makeStoreRoot(work);
      {
        const request = { device: disk.partition, fileSystem: 'xfs', target: node.path(PARTITION_TARGET) };
        await using partition = await mountReadOnly(node.host, request);
        await use({ node, bundle: { directory: partition.path, image: await storeImageOf(partition.path) } });
      }
      await then({ node, disk });
    });
  };

  onPartition(
    'is free when the image is in memory: no mount, no loop device, no holder, and it opens exclusively',
    async ({ node, bundle }) => assert.equal((await node.open(bundle, { stage: 'discovery' })).servesFromPartition, false),
    async ({ node, disk: { device, partition } }) => {
      assert.equal(await node.listed(), 2);
      assert.deepEqual([await mountPointsOf(partition), await loopsBelow(node.path(PARTITION_TARGET))], [[], []]);
      assert.deepEqual(await readdir(`/sys/block/${basename(device)}/${basename(partition)}/holders`), []);
      await (await open(partition, constants.O_RDONLY | constants.O_EXCL)).close();
    },
  );

  onPartition(
    'is given back by the run and goes on to serve, until the store is closed',
    async ({ node, bundle }) => assert.equal((await node.open(bundle)).servesFromPartition, true),
    async ({ node, disk: { partition } }) => {
      assert.deepEqual([await node.listed(), (await mountPointsOf(partition)).length], [2, 1]);
      await assert.rejects(open(partition, constants.O_RDONLY | constants.O_EXCL), { code: 'EBUSY' });
      await closeStore(node.host, { act: plainAct, force: false });
      assert.deepEqual([await node.listed(), await mountPointsOf(partition)], [0, []]);
      await (await open(partition, constants.O_RDONLY | constants.O_EXCL)).close();
    },
  );
});
