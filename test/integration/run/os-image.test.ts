import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rmdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { RAM_PATH, STORE_PATH } from '../../../agent/model/places.ts';
import { treeBlobPath } from '../../../agent/model/registry-path.ts';
import { listOf, runBuild } from '../../support/build.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage, writeOciLayout } from '../../support/images.ts';
import {
  type DataDisk,
  holdersOf,
  type MountFixture,
  type MountNode,
  makeDataDisk,
  makeMountFixture,
  mountNodesUnavailable,
  named,
  openMountNode,
} from '../../support/mount-node.ts';
import { nodeUsr } from '../../support/podman-service.ts';
import { putPolicy, sigstoreDemand } from '../../support/policies.ts';
import { attachSignatures, makeSigningKey, type SigningKey } from '../../support/signing.ts';

const unavailable = await mountNodesUnavailable();
const PROXY = fileURLToPath(new URL('../../support/image-proxy.py', import.meta.url));
const SYSTEM = 'quay.io/example/system';

describe('the operating system on a node with a mounted store', { skip: unavailable ?? false }, () => {
  let fixture: MountFixture;
  let system: MadeImage;
  let data: DataDisk;
  const key = makeSigningKey('rsa');

  before(async () => {
    fixture = await makeMountFixture();
    const { blobs, work, all } = fixture;
    // One layer is larger than what is kept in memory, one is not.
    const large = { kind: 'file', path: 'usr/large', content: randomBytes(4 * 1024 * 1024).toString('hex') } as const;
    const layers = [await makeLayer(blobs, [{ kind: 'directory', path: 'usr' }, large]), await makeLayer(blobs, named('system'))];
    system = await makeImage(blobs, { name: SYSTEM, format: 'oci', layers, labels: { 'containers.bootc': '1', 'ostree.commit': 'abc' } });
    const attached = await attachSignatures(blobs, system, { key, reference: `${SYSTEM}@${system.digest}` });
    const pulled = join(work, 'system-pulled');
    await mkdir(pulled);
    await writeOciLayout(blobs, [...all, system, ...attached], pulled);
    await writeFile(join(pulled, 'ocp-images.txt'), listOf([...all, system]));
    const bundle = join(work, 'system');
    await runBuild({ from: pulled, to: bundle, payloads: ['store'] });
    data = await makeDataDisk({ work, bundle });
  });
  after(async () => {
    await data?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });

  const args = (placement: string): readonly string[] => {
    return ['--stage', 'installed', '--delivery', 'mount', '--placement', placement, '--label', data.label];
  };
  const demand = async (node: MountNode, by: SigningKey): Promise<void> => await putPolicy(node, { [SYSTEM]: sigstoreDemand(by) });
  /** As rpm-ostree, which is told nothing of the store. */
  const readThroughProxy = async (node: MountNode) => await node.exec('python3', [PROXY, system.reference]);

  for (const placement of ['ram', 'partition', 'disk'] as const) {
    it(`is read whole through the mirror by the proxy of skopeo, offline, under a policy, with the store on ${placement}`, async () => {
      await using node = await openMountNode(fixture, { usr: await nodeUsr() });
      await demand(node, key);
      const { exitCode, state, stderr } = await node.run(args(placement));
      assert.deepEqual([exitCode, state.outcome, state.withheld, state.store?.placement], [0, 'complete', undefined, placement], stderr);
      assert.deepEqual([state.osImage?.state, state.osImage?.references], ['served', [system.reference]]);
      assert.equal(state.images.find(({ reference }) => reference === system.reference)?.state, 'served');
      const [{ layers } = { layers: [] }] = system.instances;
      const read = await readThroughProxy(node);
      assert.equal(read.exitCode, 0, read.stderr);
      assert.deepEqual(JSON.parse(read.stdout), {
        manifest: system.digest,
        layers: 2,
        bytes: layers.reduce((total, layer) => total + layer.sizeBytes, 0),
        labels: { 'org.opencontainers.image.title': SYSTEM, 'containers.bootc': '1', 'ostree.commit': 'abc' },
      });
      assert.match(
        (await node.agent(['status'])).stdout,
        new RegExp(`^system: +served, complete at 127\\.0\\.0\\.1:305, from .*${system.digest}$`, 'm'),
      );
      // What is kept on the disk needs no partition; memory holds no layers.
      assert.equal((await holdersOf(data)).length > 0, placement !== 'disk');
      const again = await node.run(args(placement));
      assert.deepEqual(
        [again.exitCode, again.state.osImage?.state, again.state.registry?.how],
        [0, 'served', state.registry?.how],
        again.stderr,
      );
      // The policy does decide: under another key the same is refused.
      await demand(node, makeSigningKey());
      const refused = await readThroughProxy(node);
      assert.notEqual(refused.exitCode, 0);
      assert.match(refused.stderr, /OpenImage: .*(?:rejected|signature)/i);
      assert.equal((await node.agent(['release', '--yes'])).exitCode, 0);
      assert.deepEqual(await holdersOf(data), []);
    });
  }

  it('comes from the disk at the next boot if the partition is gone, and then under the signatures that were kept', async () => {
    const disk = join(fixture.work, 'node-disk');
    await mkdir(disk);
    const usr = await nodeUsr();
    {
      await using node = await openMountNode(fixture, { usr, disk });
      await demand(node, key);
      assert.equal((await node.run(args('disk'))).exitCode, 0);
    }
    await using node = await openMountNode(fixture, { usr, disk });
    const gone = args('disk').map((word) => (word === data.label ? 'no-such-label' : word));
    const { exitCode, state, stderr } = await node.run([...gone, '--device-wait', '1']);
    assert.deepEqual([exitCode, state.source?.kind, state.osImage?.state], [0, 'disk', 'served'], stderr);
    const read = await readThroughProxy(node);
    assert.equal(read.exitCode, 0, read.stderr);
    await node.agent(['release', '--yes']);
  });

  it('is read from the registry that is started again, with all its layers, if the store of before has to stay', async () => {
    await using node = await openMountNode(fixture, { usr: await nodeUsr() });
    await demand(node, key);
    const first = await node.run(args('ram'));
    assert.equal(first.exitCode, 0, first.stderr);
    node.start('sh', ['-c', `cd ${STORE_PATH} && touch /run/inside && exec sleep 600`]);
    await node.output('sh', ['-c', 'until test -e /run/inside; do sleep 0.05; done']);
    const refused = await node.run(args('partition'));
    assert.deepEqual([refused.exitCode, refused.state.error?.code], [4, 'ERR_STORE_BUSY'], refused.stderr);
    assert.deepEqual(refused.state.registry, first.state.registry);
    const read = await readThroughProxy(node);
    assert.equal(read.exitCode, 0, read.stderr);
  });

  it('frees the partition if the node runs it, and its store is in memory', async () => {
    await using node = await openMountNode(fixture, { usr: await nodeUsr() });
    await demand(node, key);
    const first = await node.run(args('ram'));
    assert.deepEqual([first.exitCode, first.state.osImage?.state], [0, 'served'], first.stderr);
    assert.notDeepEqual(await holdersOf(data), []);
    await using _booted = await standInForBooted(node, system);
    const { exitCode, state, stderr } = await node.run(args('ram'));
    assert.deepEqual([exitCode, state.outcome, state.osImage?.state], [0, 'complete', 'booted'], stderr);
    assert.deepEqual(await holdersOf(data), []);
    assert.deepEqual(await node.ourMounts(), [RAM_PATH, STORE_PATH]);
    const conf = '/run/prestage-agent/storage.conf';
    const pulled = await node.exec('podman', ['pull', fixture.images.tag.reference], { env: { CONTAINERS_STORAGE_CONF: conf } });
    assert.equal(pulled.exitCode, 0, pulled.stderr);
    const { readiness, reason } = await node.status();
    assert.equal(readiness, 'ready', reason);
  });

  it('is not answered for if a layer is cut short on the partition, and the rest is', async () => {
    await using node = await openMountNode(fixture, { usr: await nodeUsr() });
    const [{ layers } = { layers: [] }] = system.instances;
    const largest = layers.toSorted((a, b) => b.sizeBytes - a.sizeBytes)[0];
    assert.ok(largest !== undefined);
    await data.change(async (top) => await truncate(join(top, 'store/installed.os', treeBlobPath(largest.digest)), 1000));
    try {
      const { state } = await node.run(args('partition'));
      assert.deepEqual([state.outcome, state.osImage?.state], ['partial', 'failed']);
      const failed = state.images.filter((image) => image.state === 'failed');
      assert.deepEqual(
        failed.map(({ reference, error }) => [reference, error?.code]),
        [[system.reference, 'ERR_BUNDLE_FILE']],
      );
      assert.match(
        failed[0]?.reason ?? '',
        /is not the layer of an operating system that prestage\.json lists, \d+ bytes: it has 1000 bytes$/,
      );
      assert.match((await readThroughProxy(node)).stderr, /OpenImage: /);
      const tool = fixture.images.tag.reference;
      const conf = '/run/prestage-agent/storage.conf';
      const pulled = await node.exec('podman', ['pull', tool], { env: { CONTAINERS_STORAGE_CONF: conf } });
      assert.equal(pulled.exitCode, 0, pulled.stderr + (await readFile(node.path(conf), 'utf8').catch(() => '')));
      await node.agent(['release', '--yes']);
    } finally {
      await data.restore();
    }
  });
});

/**
 * Stands for ostree, which does not run here: the argument by which the kernel was told of a deployment, and the origin of that deployment.
 * The lease removes the mount point that it needs at the top of this machine.
 */
async function standInForBooted(node: MountNode, { reference }: MadeImage): Promise<AsyncDisposable> {
  const deployment = '/ostree/deploy/rhcos/deploy/0.0';
  const origin = `[origin]\ncontainer-image-reference=ostree-unverified-registry:${reference}\n`;
  const lines = [
    'mkdir -p /ostree && mount -t tmpfs tmpfs /ostree',
    `mkdir -p ${deployment} /ostree/boot.1/rhcos/0 && ln -s ${deployment} /ostree/boot.1/rhcos/0/0`,
    `printf '%s' "$1" >${deployment}.origin`,
    'echo root=UUID=0 ostree=/ostree/boot.1/rhcos/0/0 >/run/cmdline && mount --bind /run/cmdline /proc/cmdline',
  ];
  await node.output('sh', ['-e', '-c', lines.join('\n'), 'sh', origin]);
  return {
    [Symbol.asyncDispose]: async () => {
      await node.output('umount', ['/ostree']);
      await rmdir('/ostree');
    },
  };
}
