import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, open, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import type { ErrorCode } from '../../../agent/model/errors.ts';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { waitFor } from '../../support/agent.ts';
import { buildBundle, type MountNode, openMountNode, STORE_IMAGE } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';
import { flipByte } from '../../support/store-bundle.ts';

const env = { CONTAINERS_STORAGE_CONF: STORAGE_CONF };

/** What can become of a bundle between two boots, and how the run that finds it ends. */
interface Loss {
  readonly what: string;
  readonly change?: (bundle: string) => Promise<void>;
  readonly args?: readonly string[];
  readonly code: ErrorCode;
  readonly message: RegExp;
  readonly exitCode: number;
}

const LOSSES: readonly Loss[] = [
  {
    what: 'is gone from the partition',
    change: async (bundle) => await rm(join(bundle, STORE_IMAGE)),
    code: 'ERR_STORE_DAMAGED',
    message: /all\.squashfs cannot be read: it does not exist/,
    exitCode: 6,
  },
  {
    what: 'was cut short',
    change: async (bundle) => await truncate(join(bundle, STORE_IMAGE), 100_000),
    code: 'ERR_STORE_DAMAGED',
    message: /all\.squashfs has 100000 bytes, but its bundle says \d+/,
    exitCode: 6,
  },
  {
    what: 'has a wrong byte, where it is hashed before',
    change: async (bundle) => await flipByte(join(bundle, STORE_IMAGE)),
    args: ['--trust', 'hash'],
    code: 'ERR_STORE_DAMAGED',
    message: /all\.squashfs .*has the sha256 [0-9a-f]{64}, but (?:should have|its bundle says) [0-9a-f]{64}/,
    exitCode: 6,
  },
  {
    what: 'came from a partition that is not there any more',
    args: ['--label', 'gone', '--device-wait', '0'],
    code: 'ERR_STORE_GONE',
    message: /no partition has the GPT label "gone"/,
    exitCode: 6,
  },
  {
    what: 'lies in another bundle than the one that is pinned',
    args: ['--bundle-sha256', '0'.repeat(64)],
    code: 'ERR_STORE_DAMAGED',
    message: /prestage\.json/,
    exitCode: 6,
  },
];

describe('a node whose store image', () => {
  const suite = mountSuite();
  /** A node that was set up in an earlier boot, with an image pulled and a container made on top of the store. */
  const onUsedNode = (what: string, act: (node: MountNode) => Promise<void>): void => {
    suite.it(what, async () => {
      const root = await mkdtemp(join(suite.fixture.work, 'root-'));
      {
        await using node = await openMountNode(suite.fixture, { disk: root });
        assert.equal((await run(node)).exitCode, 0);
        await node.output('podman', ['pull', suite.fixture.images.tag.reference], { env });
        const create = ['create', '--name', 'used', '--network=host', '--pull=never', suite.fixture.images.digest.reference, 'sh'];
        await node.output('podman', create, { env });
      }
      try {
        await using node = await openMountNode(suite.fixture, { disk: root });
        await act(node);
      } finally {
        await suite.disk.restore();
        await rm(root, { recursive: true });
      }
    });
  };
  const run = async (node: MountNode, ...more: readonly string[]) =>
    await node.run(['--stage', 'installed', '--label', suite.disk.label, ...more]);
  const names = () => suite.fixture.all.map(({ reference }) => reference).toSorted();
  /** Engines work, whether they are told of the store or not, and no record is left that no command can read. */
  const assertEnginesWork = async (node: MountNode): Promise<void> => {
    // Units and shells are told of the store only where the configuration is there.
    const isTold = existsSync(node.path(STORAGE_CONF));
    for (const more of isTold ? [{}, { env }] : [{}]) {
      const listed = await node.exec('podman', ['images', '--all', '--quiet'], more);
      assert.deepEqual([listed.exitCode, listed.stdout], [0, ''], listed.stderr);
    }
    assert.equal(await node.output('podman', ['ps', '--all', '--quiet']), '');
  };
  const assertBack = async (node: MountNode): Promise<void> => {
    const { exitCode, state, stderr } = await run(node);
    assert.deepEqual([exitCode, state.outcome, state.error, state.healed], [0, 'complete', undefined, undefined], stderr);
    assert.deepEqual([await node.readOnlyImages(env), (await node.status()).readiness], [names(), 'ready']);
    const ran = await node.exec(
      'podman',
      ['run', '--rm', '--network=host', '--pull=always', suite.fixture.images.tag.reference, 'cat', '/etc/name'],
      { env },
    );
    assert.deepEqual([ran.exitCode, ran.stdout], [0, 'tag'], ran.stderr);
  };

  for (const { what, change, args = [], code, message, exitCode } of LOSSES) {
    onUsedNode(`${what} has engines that work, says why, and has the images again with the payload`, async (node) => {
      if (change !== undefined) await suite.disk.change(change);
      const ended = await run(node, ...args);
      assert.deepEqual(
        [ended.exitCode, ended.state.error?.code, ended.state.store, ended.state.registry],
        [exitCode, code, undefined, undefined],
        ended.stderr,
      );
      assert.match(ended.state.error?.message ?? '', message);
      assert.deepEqual(ended.state.healed?.[0], 'an empty store stands in its place');
      assert.deepEqual(
        ended.state.healed
          ?.slice(1)
          .map((line) => line.replace(/ \(.*/, ''))
          .toSorted(),
        ['removed container used', `removed image ${suite.fixture.images.tag.reference}`],
      );
      await assertEnginesWork(node);
      assert.deepEqual(await node.ourMounts(), []);

      const status = await node.status();
      assert.deepEqual([status.readiness, status.exitCode, status.nextStep], ['degraded', exitCode, ended.state.error?.remedy]);
      assert.match(status.reason, message);
      assert.equal(
        (await node.agent(['run', '--stage', 'installed', '--label', suite.disk.label, ...args], { env: { PRESTAGE_POLICY: 'open' } }))
          .exitCode,
        exitCode + 64,
      );

      await suite.disk.restore();
      await assertBack(node);
    });
  }

  onUsedNode('has a wrong byte is found by the check behind the boot, which heals the node', async (node) => {
    await suite.disk.change(async (bundle) => await flipByte(join(bundle, STORE_IMAGE), 1));
    const { exitCode, state, stderr } = await run(node, '--trust', 'background');
    assert.deepEqual([exitCode, state.store?.verified], [0, 'pending'], stderr);
    const status = await waitFor('the verdict', async () => {
      const found = await node.status();
      // While it heals, the mirrors are gone already and the store is not.
      return found.readiness === 'degraded' && found.run?.store === undefined ? found : undefined;
    });
    assert.match(
      status.reason,
      /^the mounted store image has the sha256 [0-9a-f]{64}, but its bundle says [0-9a-f]{64}; done so that engines work: /,
    );
    assert.deepEqual(
      [status.exitCode, status.run?.store, status.nextStep],
      [6, undefined, 'Write the bundle to the partition again; the next run mounts the new copy'],
    );
    await assertEnginesWork(node);
    assert.deepEqual(await node.ourMounts(), []);
    await suite.disk.restore();
    await assertBack(node);
  });

  onUsedNode('has records that cannot be read is not left mounted until the check finds it', async (node) => {
    await suite.disk.change(async (bundle) => await spoilRecords(join(bundle, STORE_IMAGE)));
    const { exitCode, state, stderr } = await run(node, '--trust', 'background');
    assert.deepEqual([exitCode, state.error?.code, state.store, state.healed?.length], [6, 'ERR_STORE_DAMAGED', undefined, 3], stderr);
    await assertEnginesWork(node);
    assert.deepEqual(await node.ourMounts(), []);
    await suite.disk.restore();
    await assertBack(node);
  });

  onUsedNode('was exchanged for that of another release has the images of the new one alone', async (node) => {
    const other = join(suite.fixture.work, 'other');
    const { registry, list, tag } = suite.fixture.images;
    await buildBundle({ blobs: suite.fixture.blobs, images: [registry, list], directory: other });
    await suite.disk.change(async (bundle) => {
      await cp(other, bundle, { recursive: true, force: true });
    });
    const ended = await run(node);
    assert.deepEqual([ended.exitCode, ended.state.outcome], [0, 'complete'], ended.stderr);
    assert.deepEqual(await node.readOnlyImages(env), [registry, list].map(({ reference }) => reference).toSorted());
    assert.deepEqual(
      ended.state.notices.map((notice) => notice.replace(/ \(.*\)/, '')),
      ['removed container used', `removed image ${tag.reference}`].map((what) => `${what}: it was based on a store image that is gone`),
    );
    await node.output('podman', ['pull', list.reference], { env });

    // The first release again, in the same boot.
    const back = await node.run(['--stage', 'installed', '--bundle', suite.fixture.bundle]);
    assert.deepEqual([back.exitCode, back.state.outcome, back.state.notices], [0, 'complete', []], back.stderr);
    assert.deepEqual(await node.readOnlyImages(env), names());
    await node.output('podman', ['pull', tag.reference], { env });
  });
});

/** Has the kernel look for the small files of a squashfs where they are not. Source: Linux, fs/squashfs/squashfs_fs.h, squashfs_super_block. */
async function spoilRecords(path: string): Promise<void> {
  await using file = await open(path, 'r+');
  const numberAt = async (position: number): Promise<number> =>
    Number((await file.read(Buffer.alloc(8), 0, 8, position)).buffer.readBigUInt64LE());
  const fragmentTable = await numberAt(80);
  const block = await numberAt(fragmentTable);
  // After the block's own size: where the first fragment begins.
  await file.write(Buffer.from([0xff, 0xff]), 0, 2, block + 2);
}
