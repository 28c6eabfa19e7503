import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { MANIFEST_FORMS, renderManifests } from '../../../agent/cluster/manifests.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { STORE_PATH } from '../../../agent/model/places.ts';
import { filesOf } from '../../support/machine-config.ts';
import { type FactoryBench, makeFactoryBench } from '../../support/prestage.ts';
import { seal, sealLayout } from '../../support/sealed-bundle.ts';
import { makeTinyBundle } from '../../support/tiny-bundle.ts';

describe('prestage-agent manifests', () => {
  let bench: FactoryBench;
  let bundle: string;
  let references: readonly string[];
  before(async () => {
    bench = await makeFactoryBench();
    const { store, images } = await makeTinyBundle(bench.work, 2);
    references = images.map(({ reference }) => reference);
    bundle = `${bench.work}/sealed`;
    await sealLayout(store, { directory: bundle, stage: 'installed', images });
  });
  after(async () => await bench[Symbol.asyncDispose]());

  it('prints YAML documents, and what to know about them as messages', async () => {
    const { exitCode, stdout, stderr } = await bench.prestage('manifests');
    const { manifests, notices } = renderManifests({ forms: ['machineconfig'], role: 'master', pinned: [] });
    const unpinned =
      'no image is pinned, because no bundle is given: kubelet may try to remove images of the store, which frees no space. Give --bundle DIR';
    assert.deepEqual([exitCode, stderr], [0, [unpinned, ...notices].map((notice) => `notice: ${notice}`).join('\n')]);
    assert.deepEqual(
      parseAllDocuments(stdout).map((document) => document.toJS()),
      manifests,
    );
    assert.ok(stdout.includes('source: data:text/plain;charset=utf-8;base64,'), 'a data URL stands on its line');
  });

  it('prints a list of the Kubernetes API as JSON, with all forms that belong together and the images of a bundle', async () => {
    const args = ['manifests', '--as', 'all', '--role', 'worker', '--store', '/var/stores/a', '--bundle', bundle, '--output', 'json'];
    const { exitCode, stdout } = await bench.prestage(...args);
    const forms = ['machineconfig', 'pinned-images'] as const;
    const { manifests } = renderManifests({ forms, role: 'worker', store: '/var/stores/a', pinned: references });
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(stdout), { apiVersion: 'v1', kind: 'List', items: manifests });
  });

  it('pins the images of a bundle that has a store image, and of no other where nothing is asked for', async () => {
    const mounted = `${bench.work}/mounted`;
    const { store, images } = await makeTinyBundle(`${bench.work}/for-store`, 1);
    const verity = { rootHash: 'a'.repeat(64), hashTree: 'store.verity' };
    const payload = { kind: 'store', stage: 'installed', image: 'store.squashfs', verity, mirror: 'mirror' } as const;
    await mkdir(mounted);
    for (const path of ['store.squashfs', 'store.verity', 'mirror']) await writeFile(`${mounted}/${path}`, store);
    await seal({ directory: mounted, stage: 'installed', images, payloads: [payload] });
    const namesOf = async (directory: string) =>
      parseAllDocuments((await bench.prestage('manifests', '--bundle', directory)).stdout).map((document) => document.toJS().metadata.name);
    assert.deepEqual(await namesOf(mounted), ['99-master-prestage-store', '99-master-prestage-pinned-images']);
    assert.deepEqual(await namesOf(bundle), ['99-master-prestage-store']);
  });

  it('leaves pinned images out of all forms where no bundle names them, and says so', async () => {
    const { stdout, stderr } = await bench.prestage('manifests', '--as', 'all');
    assert.match(stderr, /^notice: no image is pinned, because no bundle is given: /m);
    assert.deepEqual(
      parseAllDocuments(stdout).map((document) => document.toJS().metadata.name),
      ['99-master-prestage-store'],
    );
  });

  for (const [args, message] of [
    [['--as', 'pinned-images'], 'pinned-images needs a bundle, which names the images'],
    [['--role', 'infra'], '--role must be master or worker'],
    [['--store', 'a'], '"a" is not a path that a ContainerRuntimeConfig accepts'],
  ] as const) {
    it(`refuses ${args.join(' ')}`, async () => {
      const { exitCode, stdout, stderr } = await bench.prestage('manifests', ...args);
      assert.deepEqual([exitCode, stdout, stderr.split('\n')[0]], [2, '', `error: ${message}`]);
    });
  }
});

test('systemd makes the store’s directory out of the file that says so', async () => {
  const root = await mkdtemp(join(tmpdir(), 'manifests-'));
  try {
    const text =
      filesOf(renderManifests({ forms: MANIFEST_FORMS, role: 'master', pinned: [] }).manifests)['/etc/tmpfiles.d/50-prestage-store.conf'] ??
      '';
    await output(execOnLinux, 'systemd-tmpfiles', ['--create', `--root=${root}`, '-'], { input: text });
    assert.equal(await output(execOnLinux, 'stat', ['--format', '%F %a %U:%G', join(root, STORE_PATH)]), 'directory 755 root:root');
  } finally {
    await rm(root, { recursive: true });
  }
});
