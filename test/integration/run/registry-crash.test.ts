import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { ActName } from '../../../agent/host/acts.ts';
import { counted, figuresOf, keepCrashFigures } from '../../support/crash/points.ts';
import { inLane, sidesOf } from '../../support/crash/sides.ts';
import { writeMirror } from '../../support/mirror-archives.ts';
import { type DataDisk, holdersOf, type MountNode, makeDataDisk, mountNodesUnavailable, openMountNode } from '../../support/mount-node.ts';
import { etcOf, makeRegistryFixture, type RegistryFixture } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();

/** Steps that a first run passes which serves a tree of the partition, in order; those before them are the same as in every run. */
const ON_PARTITION: readonly ActName[] = [
  'bind-data',
  'copy-mirror',
  'load-registry-image',
  'write-registry',
  'start-registry',
  'record-setup',
  'write-system-file',
  'reload-crio',
  'unmount-partition',
  'record-end',
];
/** What archives of oc-mirror take besides. */
const ON_DISK: readonly ActName[] = ['start-tree', 'fill-tree', 'sync-tree', 'record-tree'];
/** What a run takes besides that finds another bundle being served. */
const EXCHANGED: readonly ActName[] = ['unmount-data', 'stop-registry', 'remove-registry'];
const RELEASED_AFTER: readonly ActName[] = [
  'bind-data',
  'copy-mirror',
  'load-registry-image',
  'write-registry',
  'start-registry',
  'record-setup',
  'write-system-file',
];

describe('a run that serves and is killed', () => {
  const figures = figuresOf('run that serves');
  let fixture: RegistryFixture;
  let data: DataDisk;
  let mirror: string;
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = await makeRegistryFixture();
    data = await makeDataDisk({ ...fixture, bundle: await fixture.bundleOf(['registry']) });
    mirror = join(fixture.work, 'mirror');
    await mkdir(mirror);
    const { registry, tag } = fixture.images;
    const images = [
      { repository: 'openshift/release', tag: '4.21.0-x86_64-docker-registry', image: registry },
      { repository: 'openshift/release-images', tag: '4.21.0-x86_64', image: tag },
    ];
    await writeMirror(mirror, { store: fixture.blobs, images, archives: 2 });
  });
  after(async () => {
    await keepCrashFigures(figures);
    await data?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });
  const onNode = (what: string, act: (node: MountNode) => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using node = await openMountNode(fixture);
      await counted(figures, 1, async () => await act(node));
    });
  };
  const fromPartition = (): readonly string[] => ['--stage', 'installed', '--delivery', 'registry', '--label', data.label];
  const fromArchives = (): readonly string[] => ['--stage', 'installed', '--bundle', mirror];
  const crash = async (node: MountNode, args: readonly string[], point: string): Promise<void> => {
    const { exitCode, stderr } = await node.agent(['run', ...args], { env: { PRESTAGE_CRASH_AT: point } });
    // The number of the signal does not come out of the sandbox.
    assert.equal(exitCode, 128 + 9, `the act was not reached: ${stderr}`);
  };
  /** The next run ends as if nothing had been. */
  const assertServes = async (
    node: MountNode,
    args: readonly string[],
    { reference, count }: { readonly reference: string; readonly count: number },
  ): Promise<void> => {
    const { exitCode, state, stderr } = await node.run(args);
    assert.deepEqual([exitCode, state.outcome, state.error], [0, 'complete', undefined], stderr);
    assert.deepEqual(
      state.images.map((image) => image.state),
      Array.from({ length: count }, () => 'served'),
    );
    const pulled = await node.podman('pull', reference);
    assert.equal(pulled.exitCode, 0, pulled.stderr);
    assert.equal((await node.status()).readiness, 'ready');
  };

  for (const name of inLane(ON_PARTITION, 3, 'partition')) {
    for (const when of sidesOf(name)) {
      onNode(`${when} ${name} is made good by the next run`, async (node) => {
        await crash(node, fromPartition(), `${when}:${name}`);
        await assertServes(node, fromPartition(), { reference: fixture.images.list.reference, count: fixture.all.length });
        assert.deepEqual(await node.ourMounts(), ['/run/prestage-agent/data']);
      });
    }
  }

  for (const name of inLane(ON_DISK, 3, 'disk')) {
    for (const when of sidesOf(name)) {
      onNode(`${when} ${name} is made good by the next run`, async (node) => {
        await crash(node, fromArchives(), `${when}:${name}`);
        await assertServes(node, fromArchives(), { reference: 'quay.io/openshift-release-dev/ocp-release:4.21.0-x86_64', count: 2 });
        assert.deepEqual((await readdir(node.path('/var/lib/prestage-agent/registry'))).toSorted(), ['docker', 'tree.json']);
      });
    }
  }

  for (const name of inLane(EXCHANGED, 3, 'exchanged')) {
    for (const when of sidesOf(name)) {
      onNode(`${when} ${name} of another bundle is made good by the next run`, async (node) => {
        const exchanged = ['--stage', 'installed', '--delivery', 'registry', '--bundle', await fixture.bundleOf(['registry', 'oci'])];
        assert.equal((await node.run(fromPartition())).exitCode, 0);
        await crash(node, exchanged, `${when}:${name}`);
        await assertServes(node, exchanged, { reference: fixture.images.list.reference, count: fixture.all.length });
        assert.deepEqual(await holdersOf(data), []);
      });
    }
  }

  for (const name of inLane(RELEASED_AFTER, 3, 'released')) {
    onNode(`after ${name} is taken back by a release`, async (node) => {
      const etc = await etcOf(node);
      await crash(node, fromPartition(), `after:${name}`);
      const released = await node.agent(['release', '--yes']);
      assert.equal(released.exitCode, 0, released.stderr);
      assert.deepEqual(
        [await node.ourMounts(), await holdersOf(data), existsSync(node.path('/run/prestage-agent/registry'))],
        [[], [], false],
      );
      assert.deepEqual(await readdir(node.path('/var/lib/prestage-agent')), ['state.json']);
      assert.deepEqual(await etcOf(node), etc);
    });
  }
});
