import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { STORAGE_CONF, STORE_PATH } from '../../../agent/model/places.ts';
import { type MountNode, openMountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

const env = { CONTAINERS_STORAGE_CONF: STORAGE_CONF };

describe('a node with a store image, boot after boot', () => {
  const suite = mountSuite();
  /** Boots one node as often as there are acts; what it writes to /etc and /var/lib stays between them. */
  const acrossBoots = (what: string, ...boots: readonly ((node: MountNode) => Promise<void>)[]): void => {
    suite.it(what, async () => {
      const root = await mkdtemp(join(suite.fixture.work, 'root-'));
      for (const boot of boots) {
        await using node = await openMountNode(suite.fixture, { disk: root });
        await boot(node);
      }
      await rm(root, { recursive: true });
    });
  };
  const run = async (node: MountNode, ...more: readonly string[]) =>
    await node.run(['--stage', 'installed', '--label', suite.disk.label, ...more]);
  const assertAllThere = async (node: MountNode): Promise<void> => {
    assert.deepEqual(await node.readOnlyImages(env), suite.fixture.all.map(({ reference }) => reference).toSorted());
    const { digest } = suite.fixture.images;
    const ran = await node.exec('podman', ['run', '--rm', '--network=host', '--pull=always', digest.reference, 'cat', '/etc/name'], {
      env,
    });
    assert.deepEqual([ran.exitCode, ran.stdout], [0, 'digest'], ran.stderr);
  };
  /** What is durable, with times of change and inodes: nothing that is the same is written again. The state of the run changes with each run, and podman's storage with each podman. */
  const durable = async (node: MountNode): Promise<string> =>
    await node.output('sh', [
      '-c',
      'find /etc/containers /etc/profile.d /var/lib/prestage-agent -xdev ! -path "*/state.json" ! -path /var/lib/prestage-agent -type f -printf "%p %i %s %T@\\n" | sort',
    ]);

  for (const placement of ['partition', 'disk'] as const) {
    let bootIds: readonly (string | undefined)[] = [];
    let kept = '';
    acrossBoots(
      `brings the store back in every boot, from the ${placement}, and writes nothing twice`,
      async (node) => {
        const { exitCode, state, stderr } = await run(node, '--placement', placement);
        assert.deepEqual([exitCode, state.outcome], [0, 'complete'], stderr);
        await assertAllThere(node);
        [kept, bootIds] = [await durable(node), [state.bootId]];
      },
      async (node) => {
        // What CRI-O is told of stands there before the agent runs, as a valid store without images.
        const early = ['--root', '/var/tmp/g', '--runroot', '/run/r', '--storage-opt', `additionalimagestore=${STORE_PATH}`];
        assert.equal(await node.output('podman', [...early, 'images', '--quiet']), '');
        const { exitCode, state, stderr } = await run(node, '--placement', placement);
        assert.deepEqual([exitCode, state.outcome, state.store?.placement], [0, 'complete', placement], stderr);
        assert.equal(bootIds.includes(state.bootId), false);
        await assertAllThere(node);
        assert.equal(await durable(node), kept);
      },
      async (node) => {
        await run(node, '--placement', placement);
        await assertAllThere(node);
        const mounts = await node.output('cat', ['/proc/self/mountinfo']);
        const again = await run(node, '--placement', placement);
        assert.deepEqual([again.exitCode, again.state.outcome], [0, 'complete'], again.stderr);
        assert.equal(await node.output('cat', ['/proc/self/mountinfo']), mounts);
        assert.equal(await durable(node), kept);
        await assertAllThere(node);
      },
    );
  }

  acrossBoots(
    'opens the copy on the disk when the partition did not come, pulls and all',
    async (node) => void (await run(node, '--placement', 'disk')),
    async (node) => {
      const { exitCode, state, stderr } = await node.run(['--stage', 'installed', '--label', 'gone', '--device-wait', '0']);
      assert.deepEqual([exitCode, state.outcome, state.store?.placement, state.source?.kind], [0, 'complete', 'disk', 'disk'], stderr);
      await assertAllThere(node);
      assert.equal((await node.status()).readiness, 'ready');
    },
  );

  acrossBoots(
    'keeps all images through a wipe of CRI-O with the store mounted',
    async (node) => {
      await run(node);
      // An image of the node's own, and containers on images of the store.
      await node.output('podman', ['pull', suite.fixture.images.tag.reference], { env });
      await node.output('podman', ['create', '--pull=never', suite.fixture.images.tag.reference, 'true'], { env });
      // crio wipe, server.go: the whole graphroot.
      await node.output('sh', ['-c', 'umount /var/lib/containers/storage/overlay; find /var/lib/containers/storage -mindepth 1 -delete']);
      await assertAllThere(node);
      const { exitCode, state } = await run(node);
      assert.deepEqual([exitCode, state.outcome, state.healed], [0, 'complete', undefined]);
      await assertAllThere(node);
    },
    async (node) => {
      await node.output('sh', ['-c', 'find /var/lib/containers/storage -mindepth 1 -delete']);
      assert.equal((await run(node)).exitCode, 0);
      await assertAllThere(node);
    },
  );
});
