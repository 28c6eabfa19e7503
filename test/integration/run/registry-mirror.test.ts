import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import type { Digest } from '../../../agent/model/digest.ts';
import { builtExecutable } from '../../support/executable.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage } from '../../support/images.ts';
import { type MirroredImage, mirrorBlobs, writeMirror } from '../../support/mirror-archives.ts';
import {
  type DataDisk,
  holdersOf,
  type MountNode,
  makeDataDisk,
  mountNodesUnavailable,
  named,
  openMountNode,
  type RunEnd,
} from '../../support/mount-node.ts';
import { makeRegistryImage } from '../../support/registry-image.ts';

const unavailable = await mountNodesUnavailable();
const TREE = '/var/lib/prestage-agent/registry';
const RELEASE = 'quay.io/openshift-release-dev/ocp-release';
const COMPONENTS = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
const TOOL = 'registry.redhat.io/openshift4/tool';

/** As oc-mirror writes them when it fills a registry. */
const SETS = {
  'idms-oc-mirror.yaml': `apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: idms-release-0}
spec:
  imageDigestMirrors:
  - {mirrors: ["localhost:55000/openshift/release"], source: ${COMPONENTS}}
  - {mirrors: ["localhost:55000/openshift/release-images"], source: ${RELEASE}}
`,
  'itms-oc-mirror.yaml': `apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata: {name: itms-generic-0}
spec:
  imageTagMirrors:
  - {mirrors: ["localhost:55000/openshift4"], source: registry.redhat.io/openshift4}
`,
};

describe('archives of oc-mirror on the partition, and no network', () => {
  let work: string;
  let blobs: string;
  let executable: string;
  let images: Readonly<Record<'release' | 'component' | 'registry' | 'tool' | 'later', MirroredImage>>;
  let first: readonly MirroredImage[];
  before(async () => {
    if (unavailable !== undefined) return;
    executable = await builtExecutable();
    work = await mkdtemp('/tmp/run-mirror-');
    blobs = join(work, 'blobs-of');
    await mkdir(blobs);
    images = await makeImages(blobs);
    first = [images.release, images.component, images.registry, images.tool];
  });
  after(async () => {
    if (work !== undefined) await rm(work, { recursive: true, force: true });
  });
  const inSequence = (what: string, act: () => Promise<void>): void => {
    it(what, async (t) => (unavailable === undefined ? await act() : t.skip(unavailable)));
  };
  let made = 0;
  /** A folder of three archives, with what names their sources beside them. */
  const folder = async (mirrored: readonly MirroredImage[]): Promise<string> => {
    const directory = join(work, `mirror-${++made}`);
    await writeMirror(directory, { store: blobs, images: mirrored, archives: 3 });
    await mkdir(join(directory, 'working-dir/cluster-resources'), { recursive: true });
    for (const [name, text] of Object.entries(SETS)) await writeFile(join(directory, 'working-dir/cluster-resources', name), text);
    return directory;
  };
  const openNode = async (): Promise<MountNode> => await openMountNode({ executable });
  const run = async (node: MountNode, ...source: readonly string[]): Promise<RunEnd> => await node.run(['--stage', 'installed', ...source]);
  const assertPulled = async (node: MountNode, ...references: readonly string[]): Promise<void> => {
    for (const reference of references) {
      const pulled = await node.podman('pull', reference);
      assert.deepEqual([reference, pulled.exitCode], [reference, 0], pulled.stderr);
    }
  };

  describe('are unpacked once', () => {
    let data: DataDisk;
    let node: MountNode;
    let firstRun: RunEnd;
    before(async () => {
      if (unavailable !== undefined) return;
      data = await makeDataDisk({ work, bundle: await folder(first) });
      node = await openNode();
      firstRun = await run(node, '--label', data.label);
    });
    after(async () => {
      await node?.[Symbol.asyncDispose]();
      await data?.[Symbol.asyncDispose]();
    });

    inSequence('and served from the disk by the registry of the release itself, after which the partition is free', async () => {
      const { exitCode, state, stderr } = firstRun;
      assert.deepEqual([exitCode, state.outcome, state.error, state.notices], [0, 'complete', undefined, []], stderr);
      assert.deepEqual(
        [state.payload, state.delivery],
        ['oc-mirror', { kind: 'registry', reason: 'the content of the bundle can only be served' }],
      );
      assert.deepEqual(state.registry, {
        address: '127.0.0.1:305',
        how: 'podman',
        tree: TREE,
        image: `${COMPONENTS}@${images.registry.image.digest}`,
      });
      assert.deepEqual(
        state.images
          .toSorted((a, b) => a.reference.localeCompare(b.reference))
          .map(({ reference, names, state: was }) => [reference, names, was]),
        [
          [`${COMPONENTS}@${images.component.image.digest}`, [`${COMPONENTS}:4.21.0-x86_64-component`], 'served'],
          [`${COMPONENTS}@${images.registry.image.digest}`, [`${COMPONENTS}:4.21.0-x86_64-docker-registry`], 'served'],
          [`${RELEASE}@${images.release.image.digest}`, [`${RELEASE}:4.21.0-x86_64`], 'served'],
          [`${TOOL}@${images.tool.image.digest}`, [`${TOOL}:v1`], 'served'],
        ].toSorted(([a], [b]) => String(a).localeCompare(String(b))),
      );
      assert.deepEqual([await node.ourMounts(), await holdersOf(data)], [[], []]);
    });

    inSequence('and pulled by the names of their sources', async () => {
      const digests = [`${COMPONENTS}@${images.component.image.digest}`, `${COMPONENTS}@${images.registry.image.digest}`];
      await assertPulled(node, `${RELEASE}:4.21.0-x86_64`, `${RELEASE}@${images.release.image.digest}`, ...digests, `${TOOL}:v1`);
      await node.output('sh', ['-c', 'skopeo copy --quiet "docker://$1" dir:/run/copy', 'sh', `${TOOL}:v1`]);
    });

    inSequence('and not again by the next run', async () => {
      const files = async (): Promise<string> =>
        await node.output('sh', ['-c', `cd ${TREE} && find . -printf '%p %i %T@\\n' | sort; cat /run/prestage-agent/registry/pid`]);
      const before = await files();
      const { exitCode, state } = await run(node, '--label', data.label);
      assert.deepEqual([exitCode, state.images, await files()], [0, firstRun.state.images, before]);
    });

    inSequence('and what a later run of oc-mirror adds brings only new blobs', async () => {
      const added = [images.later];
      await data.change(async (top) => {
        await writeMirror(join(top, 'run-2'), { store: blobs, images: added, archives: 1, known: new Set(mirrorBlobs(first)) });
      });
      const { ino } = await stat(node.path(join(TREE, 'docker/registry/v2/blobs/sha256', pathOf(images.tool.image.digest))));
      const { exitCode, state, stderr } = await run(node, '--label', data.label);
      assert.deepEqual([exitCode, state.outcome, state.images.length], [0, 'complete', 5], stderr);
      assert.equal((await stat(node.path(join(TREE, 'docker/registry/v2/blobs/sha256', pathOf(images.tool.image.digest))))).ino, ino);
      await assertPulled(node, `${COMPONENTS}@${images.later.image.digest}`, `${TOOL}:v1`);
    });

    inSequence('and go with release', async () => {
      assert.equal((await node.agent(['release', '--yes'])).exitCode, 0);
      assert.deepEqual(await readdir(node.path('/var/lib/prestage-agent')), ['state.json']);
    });
  });

  inSequence('of which one is not there cost the images that need it, which the status names with what to bring', async () => {
    await using node = await openNode();
    const directory = await folder(first);
    const gone = new Set(mirrorBlobs(first).filter((_, index) => index % 3 === 1));
    await rm(join(directory, 'mirror_000002.tar'));
    // What the registry runs from has to be whole.
    await writeMirror(join(directory, 'run-2'), { store: blobs, images: [images.registry], archives: 1 });
    const { exitCode, state, stderr } = await run(node, '--bundle', directory);
    const archive = join(directory, 'mirror_000002.tar');
    assert.deepEqual([exitCode, state.outcome], [6, 'partial'], stderr);
    assert.deepEqual(state.error, {
      code: 'ERR_ARCHIVE_MISSING',
      message: `${archive} is missing, although an archive of the same oc-mirror run with a higher number exists`,
      remedy: `Copy ${archive} again from the place where oc-mirror wrote it; then start the run again`,
    });
    const failed = state.images.filter((image) => image.state === 'failed');
    assert.ok(failed.length > 0 && failed.length < state.images.length);
    for (const { error, reason } of failed) {
      assert.equal(error?.code, 'ERR_MIRROR_MISSING');
      const named = reason?.match(/sha256:[0-9a-f]{64}/g) ?? [];
      assert.ok(named.length > 0 && named.every((digest) => [...gone].some((one) => one === digest)), reason);
      assert.equal(error?.remedy, `Add ${join(directory, 'mirror_000002.tar')}, which is missing`);
    }
    const { readiness, nextStep } = await node.status();
    assert.deepEqual([readiness, nextStep], ['partial', state.error.remedy]);
    await assertPulled(node, ...state.images.filter((image) => image.state === 'served').map(({ reference }) => reference));
  });

  inSequence('of which one cannot be read end the run with an error that names it, before and after what follows from it', async () => {
    await using node = await openNode();
    const directory = await folder(first);
    const late = join(directory, 'run-2/mirror_000001.tar');
    await writeMirror(join(directory, 'run-2'), { store: blobs, images: [images.later], archives: 1, known: new Set(mirrorBlobs(first)) });
    await writeFile(late, gzipSync(await readFile(late)));
    const error = {
      code: 'ERR_ARCHIVE_TAR',
      message: `${late}: it is compressed (gzip), but an uncompressed tar file is expected`,
      remedy: `Copy ${late} again from the place where oc-mirror wrote it; then start the run again`,
    };
    const dry = await node.agent(['run', '--stage', 'installed', '--bundle', directory, '--dry-run']);
    assert.equal(dry.exitCode, 6);
    assert.ok(dry.stdout.includes(`would end with an error: ${error.message}\n  ERR_ARCHIVE_TAR; next: ${error.remedy}`), dry.stdout);
    for (const run_ of ['first', 'next']) {
      const { exitCode, state, stderr } = await run(node, '--bundle', directory);
      assert.deepEqual([run_, exitCode, state.error, state.notices, state.images.length], [run_, 6, error, [], 4], stderr);
      const { readiness, reason, nextStep } = await node.status();
      assert.deepEqual([readiness, reason, nextStep], ['degraded', error.message, error.remedy]);
    }
    await assertPulled(node, `${TOOL}:v1`);
    // Without a registry there is nothing to serve by, and why that is so comes first.
    await writeFile(join(directory, 'mirror_000001.tar'), '');
    const nothing = await run(node, '--bundle', directory);
    assert.deepEqual([nothing.exitCode, nothing.state.error?.code], [6, 'ERR_ARCHIVE_TRUNCATED'], nothing.stderr);
    const [cause, consequence] = nothing.state.error?.message.split('; therefore: ') ?? [];
    assert.equal(cause, `${join(directory, 'mirror_000001.tar')}: the file is empty; ${error.message}`);
    assert.match(consequence ?? '', /^no image is known that can serve /);
  });

  inSequence('of several runs may lie in folders of their own', async () => {
    await using node = await openNode();
    const directory = join(work, `mirror-${++made}`);
    await writeMirror(join(directory, 'run-1'), { store: blobs, images: first, archives: 2 });
    await writeMirror(join(directory, 'run-2'), { store: blobs, images: [images.later], archives: 1, known: new Set(mirrorBlobs(first)) });
    const { exitCode, state, stderr } = await run(node, '--bundle', directory);
    // Nothing says where the tool comes from; the release is known without.
    assert.deepEqual([exitCode, state.images.length], [0, 4], stderr);
    assert.deepEqual(state.notices, [
      'the source of openshift4/tool is unknown: put idms-oc-mirror.yaml and itms-oc-mirror.yaml beside the archives',
    ]);
    await assertPulled(node, `${RELEASE}:4.21.0-x86_64`, `${COMPONENTS}@${images.later.image.digest}`);
  });

  inSequence('that name no registry take the one of the settings, and a configuration that cannot be read is a notice', async () => {
    await using node = await openNode();
    const directory = join(work, `mirror-${++made}`);
    const other: MirroredImage = { ...images.registry, repository: 'example/registry', tag: 'v1' };
    await writeMirror(directory, {
      store: blobs,
      images: [images.release, other],
      archives: 1,
      members: { 'isc_2025-05-01T10:11:12Z': 'isc' },
    });
    const missing = await run(node, '--bundle', directory);
    assert.equal(missing.state.error?.code, 'ERR_REGISTRY_IMAGE', missing.stderr);
    await writeFile(join(directory, 'itms-oc-mirror.yaml'), SETS['itms-oc-mirror.yaml'].replaceAll('openshift4', 'example'));
    const { exitCode, state, stderr } = await run(
      node,
      '--bundle',
      directory,
      '--registry-image',
      'registry.redhat.io/example/registry:v1',
    );
    assert.deepEqual([exitCode, state.registry?.image], [0, 'registry.redhat.io/example/registry:v1'], stderr);
    assert.equal(state.notices.length, 1);
    assert.match(state.notices[0] ?? '', /the ImageSetConfiguration in the archives/);
    await assertPulled(node, `${RELEASE}:4.21.0-x86_64`);
  });

  inSequence('go on where a run was killed that had unpacked some', async () => {
    await using node = await openNode();
    const layers = [];
    for (const name of ['one', 'two', 'three']) {
      layers.push(await makeLayer(blobs, [{ kind: 'file', path: name, content: randomBytes(18 * 2 ** 20).toString('base64') }], 'zstd'));
    }
    const image = await makeImage(blobs, { name: 'x/big', format: 'oci', layers });
    const directory = await folder([...first, { repository: 'openshift4/big', tag: 'v1', image }]);
    const killing = '"$@" & while [ -z "$(ls "$0" 2>/dev/null)" ]; do :; done; kill -KILL $!; wait $!';
    const blobsIn = join(TREE, 'docker/registry/v2/blobs/sha256');
    const killed = await node.exec('sh', ['-c', killing, blobsIn, executable, 'run', '--stage', 'installed', '--bundle', directory]);
    assert.equal(killed.exitCode, 128 + 9);
    assert.equal(existsSync(node.path(join(TREE, 'tree.json'))), false);
    const { exitCode, state, stderr } = await run(node, '--bundle', directory);
    assert.deepEqual([exitCode, state.images.length], [0, 5], stderr);
    await assertPulled(node, 'registry.redhat.io/openshift4/big:v1', `${TOOL}:v1`);
  });
});

function pathOf(digest: Digest): string {
  const hex = digest.slice('sha256:'.length);
  return `${hex.slice(0, 2)}/${hex}/data`;
}

async function makeImages(blobs: string) {
  const base = await makeLayer(blobs, named('base'));
  const image = async (name: string): Promise<MadeImage> =>
    await makeImage(blobs, { name: `x/${name}`, format: 'docker', layers: [base, await makeLayer(blobs, named(name))] });
  const component = (name: string, of: MadeImage): MirroredImage => ({
    repository: 'openshift/release',
    tag: `4.21.0-x86_64-${name}`,
    image: of,
  });
  return {
    release: { repository: 'openshift/release-images', tag: '4.21.0-x86_64', image: await image('release') },
    component: component('component', await image('component')),
    registry: component('docker-registry', await makeRegistryImage(blobs)),
    tool: { repository: 'openshift4/tool', tag: 'v1', image: await image('tool') },
    later: component('later', await image('later')),
  };
}
