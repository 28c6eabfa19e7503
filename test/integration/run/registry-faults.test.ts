import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { hexOf } from '../../../agent/model/digest.ts';
import { treeBlobPath, treeRepositoryPath } from '../../../agent/model/registry-path.ts';
import { listOf, runBuild } from '../../support/build.ts';
import { END_REGISTRY, NOBODY, startForeignRegistry } from '../../support/foreign-registry.ts';
import type { MadeImage } from '../../support/images.ts';
import { type MountNode, mountNodesUnavailable, openMountNode, type RunEnd } from '../../support/mount-node.ts';
import { assertPulls, etcOf, makeRegistryFixture, type RegistryFixture } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();

describe('a registry of a node that cannot serve, or must not', () => {
  let fixture: RegistryFixture;
  let node: MountNode;
  let bundle: string;
  let made = 0;
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = await makeRegistryFixture();
    bundle = await fixture.bundleOf(['registry']);
    node = await openMountNode(fixture);
  });
  after(async () => {
    await node?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });
  const onNode = (what: string, act: () => Promise<void>): void => {
    it(what, async (t) => (unavailable === undefined ? await act() : t.skip(unavailable)));
  };
  const run = async (directory: string, ...more: readonly string[]): Promise<RunEnd> =>
    await node.run(['--stage', 'installed', '--delivery', 'registry', '--bundle', directory, ...more]);
  const tree = (directory: string, path: string): string => join(directory, 'registry', path);
  const tagLink = (tag: string): string => `${treeRepositoryPath('quay.io/example/tool')}/_manifests/tags/${tag}/current/link`;
  /** A copy of the bundle that somebody has changed. */
  const changed = async (change: (directory: string) => Promise<void>): Promise<string> => {
    const directory = join(fixture.work, `changed-${++made}`);
    await cp(bundle, directory, { recursive: true });
    await change(directory);
    return directory;
  };
  const layerOf = (image: MadeImage): string => treeBlobPath(image.instances[0]?.layers.at(-1)?.digest ?? assert.fail());

  /** Nothing is served, nothing of ours is mounted, and every image says why. */
  async function assertNothingServed({ state, stderr }: RunEnd): Promise<void> {
    assert.deepEqual(
      state.images.map(({ state: was, reason }) => [was, reason]),
      state.images.map(() => ['skipped', state.error?.message]),
    );
    assert.deepEqual([state.outcome, await node.ourMounts()], ['failed', []]);
    assert.equal(existsSync(node.path('/run/prestage-agent/registry')), false, stderr);
    const { readiness, reason, nextStep } = await node.status();
    assert.deepEqual([readiness, reason, nextStep], ['failed', state.error?.message, state.error?.remedy]);
  }

  const faults = [
    {
      what: 'runs from an image that is nowhere',
      flags: ['--registry-image', 'quay.io/example/none:v1'],
      code: 'ERR_REGISTRY_IMAGE',
      message: /^the registry image quay\.io\/example\/none:v1 is neither in the bundle nor in the storage of this node$/,
    },
    {
      what: 'runs from an image without the program',
      flags: ['--registry-image', 'quay.io/example/tool:v1'],
      code: 'ERR_REGISTRY_IMAGE',
      message: /^the registry image quay\.io\/example\/tool:v1 does not contain the program \/usr\/bin\/distribution: /,
    },
    {
      what: 'is started by a command that its image does not have',
      flags: ['--registry-command', '/usr/bin/registry serve'],
      code: 'ERR_REGISTRY_IMAGE',
      message: /^the registry image quay\.io\/example\/registry:v1 does not contain the program \/usr\/bin\/registry: /,
    },
    {
      what: 'serves the cluster by no address',
      flags: ['--serve', 'cluster'],
      code: 'ERR_SETTINGS',
      message: /^the registry must serve the cluster, but serve-address is not set$/,
    },
    {
      what: 'serves the cluster without a certificate',
      flags: ['--serve', 'cluster', '--serve-address', '192.0.2.1'],
      code: 'ERR_USAGE',
      message: /^\/etc\/prestage-agent\/tls\/registry\.crt cannot be read: it does not exist/,
    },
  ];
  for (const { what, flags, code, message } of faults) {
    onNode(`that ${what} is refused, and says what is wrong`, async () => {
      const etc = await etcOf(node);
      const ended = await run(bundle, ...flags);
      assert.equal(ended.state.error?.code, code, ended.stderr);
      assert.match(ended.state.error?.message ?? '', message);
      assert.notEqual(ended.exitCode, 0);
      await assertNothingServed(ended);
      assert.deepEqual(await etcOf(node), etc);
    });
  }

  onNode('whose port is taken says by whom', async () => {
    await using _ = await startForeignRegistry(node, { port: 305, uid: 0 });
    const ended = await run(bundle);
    assert.deepEqual([ended.exitCode, ended.state.error?.code], [4, 'ERR_REGISTRY_TAKEN'], ended.stderr);
    assert.match(ended.state.error?.message ?? '', /^127\.0\.0\.1:305 is taken by python3 \(pid \d+\) of root$/);
    await assertNothingServed(ended);
  });

  for (const [port, uid, who] of [
    ['5077', NOBODY, 'the user with the id 65534'],
    ['305', 0, 'root'],
  ] as const) {
    onNode(`that ended is not taken for a program of ${who} that answers on port ${port} in its place`, async () => {
      const first = await run(bundle, '--registry-port', port);
      assert.deepEqual([first.exitCode, first.state.outcome], [0, 'complete'], first.stderr);
      await node.output('sh', ['-c', END_REGISTRY]);
      await using foreign = await startForeignRegistry(node, { port: Number(port), uid });
      assert.equal(await node.output('curl', ['-s', `http://127.0.0.1:${port}/v2/`]), '{}');
      const { readiness, images } = await node.status();
      assert.deepEqual(
        [readiness, ...new Set(images.map(({ state, reason }) => `${state}: ${reason}`))],
        [
          'failed',
          `missing: the registry that serves it does not answer: another program listens there: python3 (pid ${foreign.pid}) of ${who}`,
        ],
      );
      const again = await run(bundle, '--registry-port', port);
      assert.deepEqual(
        [again.exitCode, again.state.error],
        [
          4,
          {
            code: 'ERR_REGISTRY_TAKEN',
            message: `127.0.0.1:${port} is taken by python3 (pid ${foreign.pid}) of ${who}`,
            remedy: 'Stop that program, or set registry-port to another port',
          },
        ],
      );
      await assertNothingServed(again);
    });
  }

  onNode('whose bundle names no image for it says so, as the build did, and takes one of the settings', async () => {
    const [from, to] = [join(fixture.work, 'pulled-few'), join(fixture.work, 'few')];
    await cp(`${fixture.bundle}-pulled`, from, { recursive: true });
    for (const list of ['ai-images.txt', 'ocp-images.txt']) await writeFile(join(from, list), listOf([fixture.images.tag]));
    const { messages } = await runBuild({ from, to, payloads: ['registry'] });
    assert.ok(
      messages.some((line) => /registry: no image was found that contains a registry.*--registry-image/.test(line)),
      messages.join('\n'),
    );
    const ended = await run(to);
    assert.equal(ended.state.error?.code, 'ERR_REGISTRY_IMAGE');
    assert.match(ended.state.error?.message ?? '', /^no image is known that can serve /);
    await assertNothingServed(ended);

    const { reference } = fixture.images.registry;
    await runBuild({ from, to, payloads: ['registry'], registryImage: reference });
    const { payloads } = JSON.parse(await readFile(join(to, 'prestage.json'), 'utf8'));
    assert.deepEqual(payloads, [{ kind: 'registry', path: 'registry', registryImage: reference }]);
    const verified = await node.agent(['verify', to]);
    assert.equal(verified.exitCode, 0, verified.stdout);
    const served = await run(to);
    assert.deepEqual([served.exitCode, served.state.registry?.image, served.state.images.length], [0, reference, 1], served.stderr);
    await assertPulls(node, [fixture.images.tag]);
  });

  /** What the registry answers to a GET below /v2/quay.io/example/. */
  const asked = async (path: string): Promise<string> =>
    await node.output('curl', [
      ...['-s', '-o', '/dev/null', '-w', '%{http_code}', '-H', 'Accept: application/vnd.oci.image.manifest.v1+json'],
      `http://127.0.0.1:305/v2/quay.io/example/${path}`,
    ]);
  const leadTagElsewhere = async (directory: string): Promise<void> =>
    await writeFile(tree(directory, tagLink('v1')), fixture.images.list.digest);
  const addTag = async (directory: string): Promise<void> => {
    await mkdir(dirname(tree(directory, tagLink('latest'))), { recursive: true });
    await writeFile(tree(directory, tagLink('latest')), fixture.images.list.digest);
  };
  /** The manifest of one image gets the bytes of another. */
  const exchangeManifest = async (directory: string): Promise<void> =>
    await cp(tree(directory, treeBlobPath(fixture.images.digest.digest)), tree(directory, treeBlobPath(fixture.images.tag.digest)));
  const servedByTag = async (): Promise<string> =>
    (await node.output('skopeo', ['inspect', '--no-tags', '--format', '{{.Digest}}', `docker://${fixture.images.tag.reference}`])).trim();

  for (const [what, change] of [
    ['a tag leads to another image', leadTagElsewhere],
    ['a tag was added', addTag],
  ] as const) {
    onNode(`serves what prestage.json lists where ${what}`, async () => {
      const { exitCode, state, stderr } = await run(await changed(change));
      assert.deepEqual([exitCode, state.outcome], [0, 'complete'], stderr);
      assert.deepEqual([await servedByTag(), await asked('tool/manifests/latest')], [fixture.images.tag.digest, '404']);
      await assertPulls(node, fixture.all);
    });
  }

  onNode('serves what it checked when links and manifests are exchanged under it, also after it was killed', async () => {
    const directory = await changed(async () => {});
    assert.equal((await run(directory)).exitCode, 0);
    for (const change of [leadTagElsewhere, addTag, exchangeManifest]) await change(directory);
    await node.output('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    assert.deepEqual([await servedByTag(), await asked('tool/manifests/latest')], [fixture.images.tag.digest, '404']);
    await assertPulls(node, fixture.all);

    await node.output('sh', ['-c', 'kill -KILL "$(cat /run/prestage-agent/registry/pid)"']);
    for (let tries = 0; tries < 100 && (await node.exec('curl', ['-s', 'http://127.0.0.1:305/v2/'])).exitCode !== 0; tries++) {
      await node.output('sleep', ['0.1']);
    }
    assert.deepEqual([await servedByTag(), (await node.status()).readiness], [fixture.images.tag.digest, 'ready']);
    await assertPulls(node, [fixture.images.tag]);
  });

  const losses: readonly { readonly what: string; readonly part: string; readonly change: (directory: string) => Promise<void> }[] = [
    {
      what: 'whose layer is a link to the configuration of the registry',
      part: 'layer',
      change: async (directory) => {
        await rm(tree(directory, layerOf(fixture.images.tag)));
        await symlink('/etc/registry/config.yaml', tree(directory, layerOf(fixture.images.tag)));
      },
    },
    { what: 'whose manifest has other bytes', part: 'manifest', change: exchangeManifest },
    {
      what: 'whose manifest is gone',
      part: 'manifest',
      change: async (directory) => await rm(tree(directory, treeBlobPath(fixture.images.tag.digest))),
    },
  ];
  for (const { what, part, change } of losses) {
    onNode(`leaves out an image ${what}, and serves the others`, async () => {
      const { exitCode, state, stderr } = await run(await changed(change));
      assert.deepEqual(
        [exitCode, state.outcome, ...state.images.map(({ reference, state: was, error }) => [reference, was, error?.code])],
        [
          3,
          'partial',
          ...fixture.all.map((image) =>
            image === fixture.images.tag ? [image.reference, 'failed', 'ERR_BUNDLE_FILE'] : [image.reference, 'served', undefined],
          ),
        ],
        stderr,
      );
      assert.match(
        state.images[0]?.reason ?? '',
        new RegExp(`/run/prestage-agent/data/registry lacks ${part} sha256:[0-9a-f]{64}, or has a damaged copy$`),
      );
      const layer = fixture.images.tag.instances[0]?.layers.at(-1)?.digest;
      assert.deepEqual(await Promise.all([asked('tool/manifests/v1'), asked(`tool/manifests/${fixture.images.tag.digest}`)]), [
        '404',
        '404',
      ]);
      assert.equal(await asked(`tool/blobs/${layer}`), part === 'layer' ? '404' : '200');
      await assertPulls(node, [fixture.images.digest, fixture.images.list]);
    });
  }

  onNode('serves a layer that has other bytes, and podman refuses it by its digest', async () => {
    const layer = layerOf(fixture.images.digest);
    const directory = await changed(async (top) => {
      const bytes = await readFile(tree(top, layer));
      bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20);
      await writeFile(tree(top, layer), bytes);
    });
    assert.equal((await run(directory)).exitCode, 0);
    // Layers that podman has already are not pulled.
    await node.podman('rmi', '--all', '--force');
    const pulled = await node.podman('pull', fixture.images.digest.reference);
    assert.deepEqual([pulled.exitCode, existsSync(node.path('/run/prestage-agent/registry'))], [125, true]);
    assert.match(pulled.stderr, /Digest did not match|gzip: invalid|flate: corrupt/);
    assert.equal((await node.podman('image', 'exists', fixture.images.digest.reference)).exitCode, 1);
    await assertPulls(node, [fixture.images.list]);
  });

  onNode('leaves out an image whose layer is cut short, and serves the others', async () => {
    const directory = await changed(async (top) => await truncate(tree(top, layerOf(fixture.images.digest)), 10));
    const { state, exitCode } = await run(directory);
    const { digest } = fixture.images.digest.instances[0]?.layers.at(-1) ?? assert.fail();
    assert.deepEqual([state.outcome, exitCode], ['partial', 3]);
    assert.deepEqual(
      state.images.map(({ reference, state: was, error }) => [reference, was, error?.code]),
      fixture.all.map((image) =>
        image === fixture.images.digest ? [image.reference, 'failed', 'ERR_BUNDLE_FILE'] : [image.reference, 'served', undefined],
      ),
    );
    assert.match(state.images[1]?.reason ?? '', new RegExp(`lacks layer sha256:${hexOf(digest)}, or has a damaged copy$`));
    const dropIn = await readFile(node.path('/etc/containers/registries.conf.d/50-prestage.conf'), 'utf8');
    assert.doesNotMatch(dropIn, /example\/component/);
    await assertPulls(node, [fixture.images.tag, fixture.images.list]);
  });
});
