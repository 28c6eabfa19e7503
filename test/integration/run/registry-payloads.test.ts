import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { type MountNode, mountNodesUnavailable, openMountNode, type RunEnd } from '../../support/mount-node.ts';
import { assertPulls, etcOf, makeRegistryFixture, type RegistryFixture, repositoryOf } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();

describe('a node that serves what it has to make into a tree, or loads as well', () => {
  let fixture: RegistryFixture;
  before(async () => {
    if (unavailable === undefined) fixture = await makeRegistryFixture();
  });
  after(async () => {
    await fixture?.[Symbol.asyncDispose]();
  });
  const onNode = (what: string, act: (node: MountNode) => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using node = await openMountNode(fixture);
      await act(node);
    });
  };
  const installed = async (node: MountNode, bundle: string, ...more: readonly string[]): Promise<RunEnd> =>
    await node.run(['--stage', 'installed', '--bundle', bundle, ...more]);
  const served = () => fixture.all.map(({ reference }) => [reference, 'served']);
  const statesOf = ({ state }: RunEnd) => state.images.map(({ reference, state: was }) => [reference, was]);

  for (const kind of ['oci', 'archives'] as const) {
    onNode(`makes a tree of the payload ${kind} and serves it, once`, async (node) => {
      const bundle = await fixture.bundleOf([kind]);
      const flags = ['--delivery', 'registry', '--registry-image', fixture.images.registry.reference];
      const ended = await installed(node, bundle, ...flags);
      assert.deepEqual([ended.exitCode, ended.state.payload, statesOf(ended)], [0, kind, served()], ended.stderr);
      await assertPulls(node, fixture.all);
      const files = async (): Promise<string> =>
        await node.output('sh', [
          '-c',
          'cd /var/lib/prestage-agent/registry && find . -printf "%p %i %T@\\n" | sort; cat /run/prestage-agent/registry/pid',
        ]);
      const before = await files();
      const again = await installed(node, bundle, ...flags);
      assert.deepEqual([again.exitCode, again.state.images, await files()], [0, ended.state.images, before]);
      assert.equal((await node.agent(['release', '--yes'])).exitCode, 0);
      assert.deepEqual(await readdir(node.path('/var/lib/prestage-agent')), ['state.json']);
    });
  }

  onNode('runs the registry from the image that a store payload names', async (node) => {
    const bundle = await fixture.bundleOf(['store', 'registry', 'oci']);
    const ended = await installed(node, bundle, '--delivery', 'registry');
    assert.deepEqual(
      [ended.exitCode, ended.state.registry?.image, statesOf(ended)],
      [0, fixture.images.registry.reference, served()],
      ended.stderr,
    );
  });

  onNode('has the images and answers pulls, where the bundle has both and nothing else is asked for', async (node) => {
    const ended = await installed(node, await fixture.bundleOf(['oci', 'registry']));
    assert.deepEqual(ended.state.delivery, {
      kind: 'registry',
      reason: 'the bundle has a registry tree, and images for containers-storage',
    });
    assert.deepEqual([ended.exitCode, statesOf(ended)], [0, fixture.all.map(({ reference }) => [reference, 'loaded'])], ended.stderr);
    for (const image of fixture.all) assert.equal((await node.podman('image', 'exists', image.reference)).exitCode, 0);
    await assertPulls(node, fixture.all);
    const { readiness, reason } = await node.status();
    assert.deepEqual([readiness, reason], ['ready', 'all 4 images are in storage']);
  });

  onNode('has the images where the registry cannot start, and says that pulls are not answered', async (node) => {
    const ended = await installed(node, await fixture.bundleOf(['oci', 'registry']), '--registry-command', '/usr/bin/none serve');
    assert.deepEqual(
      statesOf(ended),
      fixture.all.map(({ reference }) => [reference, 'loaded']),
      ended.stderr,
    );
    assert.deepEqual([ended.state.outcome, ended.state.error?.code, await node.ourMounts()], ['complete', 'ERR_REGISTRY_IMAGE', []]);
    const { readiness, reason, nextStep, exitCode } = await node.status();
    assert.deepEqual([readiness, reason, nextStep], ['degraded', ended.state.error?.message, ended.state.error?.remedy]);
    assert.deepEqual([ended.exitCode, exitCode], [exitCode, exitCode]);
    assert.notEqual(exitCode, 0);
  });

  onNode('says that what it serves is missing when the registry is gone, and brings it back', async (node) => {
    const bundle = await fixture.bundleOf(['registry']);
    await installed(node, bundle, '--delivery', 'registry');
    await node.output('sh', [
      '-c',
      'podman --root /run/prestage-agent/registry/storage --runroot /run/prestage-agent/registry/run --tmpdir /run/prestage-agent/registry/tmp stop --time 0 prestage-registry',
    ]);
    const { readiness, counts } = await node.status();
    assert.deepEqual([readiness, counts.missing], ['failed', 4]);
    const again = await installed(node, bundle, '--delivery', 'registry');
    assert.deepEqual([again.exitCode, statesOf(again)], [0, served()], again.stderr);
    assert.equal((await node.status()).readiness, 'ready');
  });

  onNode('rewrites registries.conf itself where it is told to, and gives it back byte for byte', async (node) => {
    const path = node.path('/etc/containers/registries.conf');
    const theirs =
      '# Ours since 2020.\nunqualified-search-registries = ["quay.io"]\n\n[[registry]]\nprefix = "quay.io/example"\nlocation = "quay.io/example"\n  [[registry.mirror]]\n  location = "mirror.example.com/example"\n';
    await writeFile(path, theirs);
    const etc = await etcOf(node);
    const ended = await installed(node, await fixture.bundleOf(['registry']), '--delivery', 'registry', '--rewrite', 'yes');
    assert.equal(ended.exitCode, 0, ended.stderr);
    const text = await readFile(path, 'utf8');
    assert.ok(text.startsWith('# Ours since 2020.\n'));
    assert.equal(existsSync(node.path('/etc/containers/registries.conf.d/50-prestage.conf')), false);
    await assertPulls(node, fixture.all);
    assert.equal((await installed(node, await fixture.bundleOf(['registry']), '--delivery', 'registry', '--rewrite', 'yes')).exitCode, 0);
    assert.equal(await readFile(path, 'utf8'), text);
    assert.equal((await node.agent(['release', '--yes'])).exitCode, 0);
    assert.deepEqual(await etcOf(node), etc);
  });

  onNode('never asks the source where it is told so', async (node) => {
    const bundle = await fixture.bundleOf(['registry']);
    const unknown = `${repositoryOf(fixture.images.tag)}:v2`;
    assert.equal((await installed(node, bundle, '--delivery', 'registry')).exitCode, 0);
    const open = await node.podman('pull', unknown);
    assert.match(open.stderr, /pinging container registry quay\.io|dial tcp: lookup quay\.io/);
    assert.equal((await installed(node, bundle, '--delivery', 'registry', '--block-source', 'yes')).exitCode, 0);
    const blocked = await node.podman('pull', unknown);
    assert.equal(blocked.exitCode, 125);
    assert.doesNotMatch(blocked.stderr, /lookup quay\.io/);
    assert.match(blocked.stderr, /blocked/);
    await assertPulls(node, fixture.all);
  });
});
