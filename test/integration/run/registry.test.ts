import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import {
  type DataDisk,
  holdersOf,
  type MountNode,
  makeDataDisk,
  mountNodesUnavailable,
  openMountNode,
  type RunEnd,
} from '../../support/mount-node.ts';
import { assertPulls, bytesBelow, etcOf, makeRegistryFixture, type RegistryFixture, requestsAt } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();
const REGISTRY_OPTIONS = ['--stage', 'installed', '--delivery', 'registry'];

describe('a registry tree on the partition, and no network', () => {
  let fixture: RegistryFixture;
  let data: DataDisk;
  /** What the node keeps over a reboot. */
  let disk: string;
  let node: MountNode;
  let etc: Readonly<Record<string, string>>;
  let first: RunEnd;
  const run = async (): Promise<RunEnd> => await node.run([...REGISTRY_OPTIONS, '--label', data.label]);
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = await makeRegistryFixture();
    data = await makeDataDisk({ ...fixture, bundle: await fixture.bundleOf(['registry']) });
    disk = await mkdtemp('/tmp/node-disk-');
    node = await openMountNode(fixture, { disk });
    etc = await etcOf(node);
    first = await run();
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
    await data?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
    if (disk !== undefined) await rm(disk, { recursive: true, force: true });
  });
  const afterRun = (what: string, act: () => Promise<void>): void => {
    it(what, async (t) => (unavailable === undefined ? await act() : t.skip(unavailable)));
  };
  /** What a run that has nothing to do leaves as it is. */
  const footprint = async (): Promise<readonly string[]> => [
    await node.output('sh', ['-c', 'cat /proc/self/mountinfo; cat /run/prestage-agent/registry/pid']),
    await node.etcHash(),
    String((await stat(node.path('/var/lib/prestage-agent/registry-image/image.json'))).ino),
  ];

  afterRun('is served by the image that the build has found in it', async () => {
    const { exitCode, state, stderr } = first;
    assert.deepEqual([exitCode, state.outcome, state.error, state.notices], [0, 'complete', undefined, []], stderr);
    assert.deepEqual(
      state.images.map(({ reference, state: was, reason }) => [reference, was, reason]),
      fixture.all.map(({ reference }) => [reference, 'served', 'by the registry at 127.0.0.1:305']),
    );
    assert.deepEqual(state.registry, {
      address: '127.0.0.1:305',
      how: 'podman',
      tree: '/run/prestage-agent/mirror',
      blobs: '/run/prestage-agent/data/registry/docker/registry/v2/blobs',
      image: fixture.images.registry.reference,
    });
    const { readiness, reason, exitCode: statusCode } = await node.status();
    assert.deepEqual([readiness, reason, statusCode], ['ready', 'all 4 images are served', 0]);
  });

  afterRun(
    'is not copied: the partition stays bound, read-only, and nothing but the image of the registry is written to the disk',
    async () => {
      assert.deepEqual(await node.ourMounts(), ['/run/prestage-agent/data']);
      const places = (await readdir(node.path('/var/lib/prestage-agent'))).toSorted();
      assert.deepEqual(places, ['registry-image', 'setup.json', 'state.json']);
      assert.deepEqual((await readdir(node.path('/var/lib/prestage-agent/registry-image'))).toSorted(), ['image.json', 'store']);
      const [all, image] = [
        await bytesBelow(node, '/var/lib/prestage-agent'),
        await bytesBelow(node, '/var/lib/prestage-agent/registry-image'),
      ];
      assert.ok(all - image < 64 * 1024, `${all - image} bytes`);
      const blobs = (await readdir(node.path('/run/prestage-agent/mirror'), { recursive: true, withFileTypes: true })).filter(
        ({ name }) => name === 'data',
      );
      // What lies in memory are manifests, of images, the list and its instance: no config and no layer. The build takes one architecture.
      const instances = fixture.all.flatMap((image) => image.instances.filter(({ architecture }) => architecture === 'amd64'));
      const manifests = new Set([...fixture.all.map(({ digest }) => digest), ...instances.map(({ manifest }) => manifest.digest)]);
      assert.equal(blobs.length, manifests.size);
      assert.deepEqual(await node.output('podman', ['images', '--all', '--quiet']), '');
    },
  );

  afterRun('answers podman and skopeo by tag, by digest and by the digest of a list, with all layers', async () => {
    await assertPulls(node, fixture.all);
    const ran = await node.podman('run', '--rm', '--network=host', '--pull=always', fixture.images.list.reference, 'cat', '/etc/name');
    assert.deepEqual([ran.exitCode, ran.stdout], [0, 'list'], ran.stderr);
    const asked = await requestsAt(node);
    for (const image of fixture.all) {
      const layer = image.instances[0]?.layers.at(-1)?.digest;
      assert.ok(
        asked.some((line) => line.endsWith(`/blobs/${layer} 200`)),
        image.reference,
      );
    }
  });

  afterRun('is left as it is by a second run', async () => {
    const before = await footprint();
    const { exitCode, state, stderr } = await run();
    assert.deepEqual(
      [exitCode, state.outcome, state.registry, state.images],
      [0, 'complete', first.state.registry, first.state.images],
      stderr,
    );
    assert.deepEqual(await footprint(), before);
  });

  afterRun('is served again after a reboot, and the image of the registry is not loaded again', async () => {
    const [, setup, image] = await footprint();
    await node[Symbol.asyncDispose]();
    node = await openMountNode(fixture, { disk });
    const missed = await node.podman('pull', fixture.images.list.reference);
    assert.equal(missed.exitCode, 125);
    const { exitCode, state, stderr } = await run();
    assert.deepEqual([exitCode, state.outcome, state.images], [0, 'complete', first.state.images], stderr);
    assert.deepEqual((await footprint()).slice(1), [setup, image]);
    await assertPulls(node, fixture.all);
  });

  afterRun('is given back by release: /etc is as it was, the partition is free, and nothing of ours is left but the record', async () => {
    const released = await node.agent(['release', '--yes']);
    assert.equal(released.exitCode, 0, released.stderr);
    assert.deepEqual(await etcOf(node), etc);
    assert.deepEqual([await node.ourMounts(), await holdersOf(data)], [[], []]);
    assert.deepEqual(await readdir(node.path('/var/lib/prestage-agent')), ['state.json']);
    assert.equal(await node.output('podman', ['ps', '--all', '--quiet']), '');
    const { exitCode, stdout } = await node.agent(['release', '--yes']);
    assert.deepEqual([exitCode, /nothing to undo/i.test(stdout)], [0, true], stdout);
  });

  afterRun('can be served in discovery, where a notice says that its disk is in use', async () => {
    const { exitCode, state } = await node.run(['--stage', 'discovery', '--delivery', 'registry', '--label', data.label]);
    assert.deepEqual([exitCode, state.outcome], [0, 'complete']);
    assert.deepEqual(state.notices, [
      'the registry serves from the partition, which stays mounted: run prestage-agent release before anything is installed on its disk',
    ]);
    assert.ok((await holdersOf(data)).length > 0);
    const { stdout } = await node.agent(['run', '--stage', 'installed', '--delivery', 'registry', '--label', data.label, '--dry-run']);
    assert.match(stdout, /serve .*\/registry at 127\.0\.0\.1:305/);
  });
});
