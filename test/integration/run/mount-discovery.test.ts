import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe } from 'node:test';
import { hexOf } from '../../../agent/model/digest.ts';
import type { MadeImage } from '../../support/images.ts';
import { holdersOf, type MountNode, openMountNode, type RunEnd } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

/** What storage.conf has besides the list of stores, with what a rewrite could lose. */
const STORAGE_CONF = `# Of the live system.
[storage]
driver = "overlay"
runroot = "/run/containers/storage"   # in memory
graphroot = "/var/lib/containers/storage"

[storage.options]
# none yet
additionalimagestores = [
]
size = ""

[storage.options.overlay]
mountopt = "nodev,metacopy=on"
`;

describe('discovery with a store image, and no network', () => {
  let node: MountNode;
  let first: RunEnd;
  const suite = mountSuite({
    prepare: async ({ fixture, disk, use }) => {
      node = use(await openMountNode(fixture, { files: { '/etc/containers/storage.conf': STORAGE_CONF } }));
      first = await node.run(['--stage', 'discovery', '--label', disk.label]);
    },
  });
  const runnable = (): readonly (readonly [string, MadeImage])[] =>
    Object.entries(suite.fixture.images).filter(([name]) => name !== 'registry');

  suite.it('has all images after one run, and says from where', async () => {
    const { exitCode, state, stderr } = first;
    assert.deepEqual([exitCode, state.outcome, state.error, state.notices], [0, 'complete', undefined, []], stderr);
    assert.deepEqual(
      state.images.map(({ reference, state: was }) => [reference, was]),
      suite.fixture.all.map(({ reference }) => [reference, 'present']),
    );
    assert.deepEqual(
      [state.delivery?.kind, state.store?.placement, state.store?.verified, state.registry?.address],
      ['mount', 'ram', 'before-mount', '127.0.0.1:305'],
    );
    assert.equal((await node.status()).readiness, 'ready');
  });

  suite.it('leaves nothing on the partition: no mount, no loop device, no holder, and it opens exclusively', async () => {
    assert.deepEqual(await holdersOf(suite.disk), []);
    assert.deepEqual(await node.ourMounts(), ['/run/prestage-agent/ram', '/var/lib/prestage-agent/store']);
  });

  suite.it('keeps all else of storage.conf', async () => {
    const text = await readFile(node.path('/etc/containers/storage.conf'), 'utf8');
    const list = /additionalimagestores = \[\s*"\/var\/lib\/prestage-agent\/store",?\s*\]/;
    assert.equal(text.replace(list, 'additionalimagestores = [\n]'), STORAGE_CONF);
    assert.match(text, list);
  });

  suite.it('lists every image as read-only, by the name by which agent.service looks for it', async () => {
    assert.deepEqual(await node.readOnlyImages(), suite.fixture.all.map(({ reference }) => reference).toSorted());
    const listed = await node.output('sh', ['-c', 'podman images | grep quay.io/example/tool']);
    assert.match(listed, /^quay\.io\/example\/tool +v1 /m);
  });

  suite.it('resolves every image by tag and by digest', async () => {
    for (const image of suite.fixture.all) {
      const { reference, digest } = image;
      const repository = reference.replace(/[:@].*/, '');
      for (const name of [reference, `${repository}@${digest}`]) {
        const found = await node.podman('image', 'exists', name);
        assert.deepEqual([name, found.exitCode], [name, 0], found.stderr);
      }
    }
  });

  suite.it('runs every image, and what runs is the image that was meant', async () => {
    for (const [name, { reference }] of runnable()) {
      const ran = await node.podman('run', '--rm', '--network=host', '--pull=never', reference, 'cat', '/etc/name');
      assert.deepEqual([ran.exitCode, ran.stdout], [0, name], ran.stderr);
    }
  });

  suite.it('pulls by tag, by digest and by the digest of a list, and always anew, without a layer', async () => {
    for (const { reference } of suite.fixture.all) {
      const pulled = await node.podman('pull', reference);
      assert.deepEqual([reference, pulled.exitCode], [reference, 0], pulled.stderr);
    }
    for (const [name, { reference }] of runnable()) {
      const ran = await node.podman('run', '--rm', '--network=host', '--pull=always', reference, 'cat', '/etc/name');
      assert.deepEqual([ran.exitCode, ran.stdout], [0, name], ran.stderr);
    }
    const log = await readFile(node.path('/run/prestage-agent/registry/registry.log'), 'utf8');
    const layers = suite.fixture.all.flatMap(({ instances }) => instances.flatMap((one) => one.layers.map(({ digest }) => hexOf(digest))));
    assert.match(log, /\/v2\/quay\.io\/example\/tool\/manifests\/v1/);
    assert.deepEqual(
      layers.filter((hex) => log.includes(hex)),
      [],
    );
  });

  suite.it('answers skopeo inspect', async () => {
    for (const { reference } of suite.fixture.all) {
      const inspected = JSON.parse(await node.output('skopeo', ['inspect', '--no-tags', `docker://${reference}`]));
      assert.equal(inspected.Name, reference.replace(/[:@].*/, ''));
    }
  });

  suite.it('has nothing to do in a second run', async () => {
    const look = ['-c', 'cat /proc/self/mountinfo; cat /run/prestage-agent/registry/pid; stat -c %y%i /run/prestage-agent/ram/*'];
    const [before, etc] = [await node.output('sh', look), await node.etcHash()];
    const { exitCode, state, stderr } = await node.run(['--stage', 'discovery', '--label', suite.disk.label]);
    assert.deepEqual(
      [exitCode, state.outcome, state.store, state.registry, state.images],
      [0, 'complete', first.state.store, first.state.registry, first.state.images],
      stderr,
    );
    assert.deepEqual([await node.output('sh', look), await node.etcHash(), await holdersOf(suite.disk)], [before, etc, []]);
  });

  suite.it('goes on when the disk was written over, and says that the partition is gone', async () => {
    await node.output('sgdisk', ['--zap-all', suite.disk.device]);
    const { exitCode, state } = await node.run(['--stage', 'discovery', '--label', suite.disk.label, '--device-wait', '0']);
    assert.deepEqual(
      [exitCode, state.outcome, state.error?.code, state.delivery, state.store, state.registry, state.healed],
      [5, 'complete', 'ERR_PARTITION_MISSING', first.state.delivery, first.state.store, first.state.registry, undefined],
    );
    const { readiness, reason, exitCode: statusCode } = await node.status();
    assert.deepEqual([readiness, statusCode], ['degraded', 5]);
    assert.match(reason, /^no partition has the GPT label/);
    assert.deepEqual(await node.readOnlyImages(), suite.fixture.all.map(({ reference }) => reference).toSorted());
  });
});
