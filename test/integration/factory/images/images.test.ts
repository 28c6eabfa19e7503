import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { makeSandbox, type Sandbox } from '../../../support/agent.ts';
import { makeLayer, whiteout } from '../../../support/image-layer.ts';
import { type MadeImage, makeImage, writeDirLayout, writeOciLayout } from '../../../support/images.ts';
import { privateStorage } from '../../../support/storage.ts';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const component = (name: string, letter: string) => ({
  name,
  from: { kind: 'DockerImage', name: `quay.io/openshift-release-dev/ocp-v4.0-art-dev@${digest(letter)}` },
});
const REFERENCES = JSON.stringify({
  kind: 'ImageStream',
  metadata: { name: '4.14.0' },
  spec: { tags: [component('etcd', 'a'), component('console', 'b'), component('pod', 'c')] },
});
const CATALOG = `${JSON.stringify({ schema: 'olm.package', name: 'lso', defaultChannel: 'stable' })}
${JSON.stringify({ schema: 'olm.channel', package: 'lso', name: 'stable', entries: [{ name: 'lso.v2', replaces: 'lso.v1' }, { name: 'lso.v1' }] })}
${JSON.stringify({ schema: 'olm.bundle', package: 'lso', name: 'lso.v2', image: `quay.io/o/lso-bundle@${digest('d')}`, relatedImages: [{ name: 'op', image: `quay.io/o/lso@${digest('e')}` }] })}`;

describe('images', () => {
  let sandbox: Sandbox;
  let store: string;
  let release: MadeImage;
  let catalog: MadeImage;
  before(async () => {
    sandbox = await makeSandbox();
    store = join(sandbox.work, 'store');
    await mkdir(store, { recursive: true });
    const old = await makeLayer(store, [{ kind: 'file', path: 'release-manifests/image-references', content: '{"an older":"one"}' }]);
    const current = await makeLayer(store, [{ kind: 'file', path: 'release-manifests/image-references', content: REFERENCES }]);
    release = await makeImage(store, {
      name: 'quay.io/openshift-release-dev/ocp-release',
      tag: '4.14.0-x86_64',
      format: 'docker',
      layers: [old, current],
    });
    const configs = await makeLayer(
      store,
      [
        { kind: 'file', path: 'configs/lso/catalog.json', content: CATALOG },
        { kind: 'file', path: 'configs/gone/catalog.json', content: '{"lso": broken' },
      ],
      'zstd',
    );
    const gone = await makeLayer(store, [whiteout('configs/gone')]);
    catalog = await makeImage(store, { name: 'quay.io/o/catalog', tag: 'v4.14', format: 'oci', layers: [configs, gone] });
    await writeOciLayout(store, [release, catalog], join(sandbox.work, 'layout'));
    await writeDirLayout(store, release, join(sandbox.work, 'dir'));
    await writeDirLayout(store, catalog, join(sandbox.work, 'catalog'));
  });
  after(async () => await sandbox[Symbol.asyncDispose]());

  const images = async (...args: readonly string[]) => await sandbox.agent(['images', ...args]);

  it('release reads the topmost image-references out of an OCI layout and a dir: layout', async () => {
    const expected = ['a', 'b', 'c']
      .map((letter) => `quay.io/openshift-release-dev/ocp-v4.0-art-dev@${digest(letter)}`)
      .map((line) => `${line}\n`)
      .join('');
    for (const source of [
      `oci:${join(sandbox.work, 'layout')}:${release.reference}`,
      `dir:${join(sandbox.work, 'dir')}`,
      join(sandbox.work, 'dir'),
    ]) {
      const { stdout, exitCode } = await images('release', source);
      assert.deepEqual([exitCode, stdout], [0, expected], source);
    }
  });

  it('release fails for a component without an image of its own, unless it is left out', async () => {
    const tags = [component('etcd', 'a'), { name: 'odd', from: { kind: 'ImageStreamTag', name: '4.14:odd' } }];
    const content = JSON.stringify({ kind: 'ImageStream', spec: { tags } });
    const layer = await makeLayer(store, [{ kind: 'file', path: 'release-manifests/image-references', content }]);
    const odd = await makeImage(store, { name: 'quay.io/example/odd', format: 'oci', layers: [layer] });
    const directory = join(sandbox.work, 'odd');
    await writeDirLayout(store, odd, directory);
    const whole = await images('release', directory);
    assert.deepEqual([whole.exitCode, whole.stdout], [6, '']);
    assert.match(
      whole.stderr,
      /spec\.tags\.1 \("odd"\): from is \{"kind":"ImageStreamTag","name":"4\.14:odd"\}, not a DockerImage with a name/,
    );
    const without = await images('release', directory, '--exclude', 'odd');
    const [etcd] = tags;
    assert.deepEqual([without.exitCode, without.stdout], [0, `${etcd?.from.name}\n`]);
  });

  it('release reads containers-storage through skopeo', async () => {
    await using storage = await privateStorage();
    await output(execOnLinux, 'skopeo', ['copy', '--quiet', `dir:${join(sandbox.work, 'dir')}`, storage.name(release.reference)]);
    const { stdout } = await images(
      'release',
      storage.name(release.reference),
      '--stage',
      'discovery',
      '--exclude',
      'pod',
      '--output',
      'json',
    );
    const answer = JSON.parse(stdout);
    assert.deepEqual(
      [answer.release, answer.images, answer.ignored.map((one: { component: string }) => one.component)],
      ['4.14.0', [{ reference: component('etcd', 'a').from.name, component: 'etcd' }], ['pod']],
    );
  });

  it('release of an image without image-references says so', async () => {
    const { exitCode, stderr } = await images('release', join(sandbox.work, 'catalog'));
    assert.deepEqual(
      [exitCode, stderr.includes('has no release-manifests/image-references'), stderr.includes('ERR_RELEASE')],
      [6, true, true],
    );
  });

  it('release of an image that is not there names the ways to give one', async () => {
    const { exitCode, stderr } = await images('release', join(sandbox.work, 'nowhere'));
    assert.deepEqual([exitCode, stderr.includes('ERR_SOURCE')], [6, true]);
  });

  it('a layout with several images asks which', async () => {
    const { exitCode, stderr } = await images('release', join(sandbox.work, 'layout'));
    assert.deepEqual([exitCode, stderr.includes('has 2 images, not exactly one'), stderr.includes(catalog.reference)], [6, true, true]);
  });

  it('operators reads a catalog image with zstd layers and whiteouts, and a folder', async () => {
    const expected = `quay.io/o/lso-bundle@${digest('d')}\nquay.io/o/lso@${digest('e')}\n`;
    const folder = join(sandbox.work, 'folder');
    await mkdir(join(folder, 'lso'), { recursive: true });
    await writeFile(join(folder, 'lso/catalog.json'), CATALOG);
    for (const source of [join(sandbox.work, 'catalog'), folder]) {
      const { stdout, exitCode } = await images('operators', source, '--package', 'lso:stable');
      assert.deepEqual([exitCode, stdout], [0, expected], source);
    }
  });

  it('operators names what the catalog has where a package is not in it', async () => {
    const { exitCode, stderr } = await images('operators', join(sandbox.work, 'catalog'), '--package', 'other');
    assert.deepEqual([exitCode, stderr.includes('the catalog has no package other; it has: lso')], [6, true]);
  });

  it('merge joins lists and tells doubles on stderr', async () => {
    const [a, b] = [join(sandbox.work, 'a.txt'), join(sandbox.work, 'b.txt')];
    await writeFile(a, 'quay.io/o/a:1\nquay.io/o/b:1\r\n');
    await writeFile(b, 'quay.io/o/b:1\n');
    const { stdout, stderr, exitCode } = await images('merge', a, b);
    assert.deepEqual([exitCode, stdout, stderr.includes('is already listed at')], [0, 'quay.io/o/a:1\nquay.io/o/b:1\n', true]);
  });

  it('merge of a list that cannot be read names the line', async () => {
    const bad = join(sandbox.work, 'bad.txt');
    await writeFile(bad, 'quay.io/o/a:1\nNot/../an image\n');
    const { stderr, exitCode } = await images('merge', bad);
    assert.deepEqual([exitCode, stderr.includes(`${bad}:2:`)], [6, true], stderr);
    assert.ok(stderr.includes('ERR_LIST'), stderr);
  });
});
