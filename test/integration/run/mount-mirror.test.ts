import assert from 'node:assert/strict';
import { copyFile, cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { type BundleFile, formatBundle, parseBundle } from '../../../agent/model/bundle.ts';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { waitFor } from '../../support/agent.ts';
import { runBuild } from '../../support/build.ts';
import { buildBundle, type MountFixture, type MountNode, STORE_IMAGE } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

const env = { CONTAINERS_STORAGE_CONF: STORAGE_CONF };
const SOURCE = '127.0.0.1:5999';
/** Where images come from beside the agent: a mirror that the cluster's administrator has set. */
const REGISTRIES_CONF = `[[registry]]
prefix = "quay.io/example"
location = "quay.io/example"
[[registry.mirror]]
location = "${SOURCE}/quay.io/example"
insecure = true
`;

describe('the metadata tree of a node', () => {
  const suite = mountSuite({ partitionMiB: 0, node: { files: { '/etc/containers/registries.conf': REGISTRIES_CONF } } });
  const run = async (node: MountNode, bundle: string, ...more: readonly string[]) =>
    await node.run(['--stage', 'installed', '--bundle', bundle, ...more]);
  const isAnswering = async (node: MountNode, address: string) =>
    (await node.exec('curl', ['-sf', `http://${address}/v2/`])).stdout === '{}' || undefined;
  const pull = async (node: MountNode, reference: string) => await node.exec('podman', ['pull', reference], { env });

  suite.onNode('does not promise what the store lacks: that image comes from the source, and the run names it', async (node) => {
    const { tag, digest, list, registry } = suite.fixture.images;
    const [lacking, source] = [join(suite.fixture.work, 'lacking'), join(suite.fixture.work, 'source')];
    await makeLackingBundle(suite.fixture, lacking);
    await runBuild({ from: `${suite.fixture.bundle}-pulled`, to: source, payloads: ['registry'] });
    const config = {
      version: 0.1,
      storage: { filesystem: { rootdirectory: join(source, 'registry') }, maintenance: { readonly: { enabled: true } } },
      http: { addr: SOURCE },
    };
    await writeFile(node.path('/run/source.yml'), JSON.stringify(config));
    const server = node.start('docker-registry', ['serve', '/run/source.yml']);
    server.stderr?.resume();
    await waitFor('the source', async () => await isAnswering(node, SOURCE));

    const { exitCode, state, stderr } = await run(node, lacking);
    assert.deepEqual([exitCode, state.outcome], [3, 'partial'], stderr);
    assert.deepEqual(
      state.images.map((image) => [image.reference, image.state, image.error?.code]),
      suite.fixture.all.map(({ reference }) =>
        reference === tag.reference ? [reference, 'failed', 'ERR_STORE_IMAGE'] : [reference, 'present', undefined],
      ),
    );
    const status = await node.status();
    assert.deepEqual([status.readiness, status.exitCode], ['partial', 3]);
    assert.match(
      status.reason,
      /^3 of 4 images are usable; first: quay\.io\/example\/tool:v1: the store image does not have quay\.io\/example\/tool:v1 under all its names/,
    );

    for (const { reference } of [tag, digest, list, registry]) {
      const pulled = await pull(node, reference);
      assert.deepEqual([reference, pulled.exitCode], [reference, 0], pulled.stderr);
    }
    assert.equal(
      await node.output('podman', ['run', '--rm', '--network=host', '--pull=never', tag.reference, 'cat', '/etc/name'], { env }),
      'tag',
    );
    const log = await readFile(node.path('/run/prestage-agent/registry/registry.log'), 'utf8');
    assert.match(log, /manifests\/v1.*http\.response\.status=404/);
    // Loaded from elsewhere, it is there also for the next run.
    const again = await run(node, lacking);
    assert.deepEqual([again.exitCode, again.state.outcome], [3, 'partial'], again.stderr);
    server.kill();
  });

  suite.onNode('that cannot have its port leaves the images usable, and says who has it', async (node) => {
    const listener = node.start('python3', ['-m', 'http.server', '--bind', '127.0.0.1', '305']);
    await waitFor('the other program', async () => (await node.exec('curl', ['-s', 'http://127.0.0.1:305/'])).exitCode === 0 || undefined);
    const { exitCode, state, stderr } = await run(node, suite.fixture.bundle);
    assert.deepEqual(
      [exitCode, state.outcome, state.error?.code, state.registry],
      [4, 'complete', 'ERR_REGISTRY_TAKEN', undefined],
      stderr,
    );
    assert.match(state.error?.message ?? '', /^127\.0\.0\.1:305 is taken by python3 \(pid \d+\) of root$/);
    const status = await node.status();
    assert.deepEqual(
      [status.readiness, status.reason, status.nextStep],
      ['degraded', state.error?.message, 'Stop that program, or set registry-port to another port'],
    );
    const { reference } = suite.fixture.images.tag;
    assert.equal(await node.output('podman', ['run', '--rm', '--network=host', reference, 'cat', '/etc/name'], { env }), 'tag');

    listener.unref();
    await node.output('kill', [/pid (\d+)/.exec(state.error?.message ?? '')?.[1] ?? '']);
    await waitFor(
      'the end of the other program',
      async () => (await node.exec('curl', ['-s', 'http://127.0.0.1:305/'])).exitCode === 7 || undefined,
    );
    const again = await run(node, suite.fixture.bundle);
    assert.deepEqual([again.exitCode, again.state.error, again.state.registry?.address], [0, undefined, '127.0.0.1:305'], again.stderr);
    assert.equal((await pull(node, reference)).exitCode, 0);
  });

  suite.onNode('that was stopped makes the node degraded, and stands again after the next run', async (node) => {
    await run(node, suite.fixture.bundle);
    const storage = '/run/prestage-agent/registry';
    await node.output('podman', [
      '--root',
      `${storage}/storage`,
      '--runroot',
      `${storage}/run`,
      '--tmpdir',
      `${storage}/tmp`,
      '--storage-driver',
      'overlay',
      'rm',
      '--force',
      'prestage-registry',
    ]);
    const status = await node.status();
    assert.deepEqual([status.readiness, status.nextStep], ['degraded', 'Start it again: prestage-agent run --stage installed']);
    const again = await run(node, suite.fixture.bundle);
    assert.deepEqual([again.exitCode, again.state.error], [0, undefined], again.stderr);
    assert.equal((await pull(node, suite.fixture.images.list.reference)).exitCode, 0);
    assert.equal((await node.status()).readiness, 'ready');
  });

  suite.onNode('takes another port, and the sources are asked there', async (node) => {
    const { exitCode, state, stderr } = await run(node, suite.fixture.bundle, '--registry-port', '5077');
    assert.deepEqual([exitCode, state.registry?.address], [0, '127.0.0.1:5077'], stderr);
    assert.equal((await pull(node, suite.fixture.images.digest.reference)).exitCode, 0);
    const back = await run(node, suite.fixture.bundle);
    assert.deepEqual([back.exitCode, back.state.registry?.address], [0, '127.0.0.1:305'], back.stderr);
    assert.equal((await pull(node, suite.fixture.images.digest.reference)).exitCode, 0);
    assert.equal((await node.exec('curl', ['-s', 'http://127.0.0.1:5077/'])).exitCode, 7);
  });
});

/** A bundle whose manifest and mirror have an image that its store image has not: its seal is whole. */
async function makeLackingBundle({ blobs, images, bundle }: MountFixture, directory: string): Promise<void> {
  const less = `${directory}-less`;
  await buildBundle({ blobs, images: [images.digest, images.list, images.registry], directory: less });
  await cp(bundle, directory, { recursive: true });
  const [whole, other] = await Promise.all(
    [directory, less].map(async (path) => parseBundle(await readFile(join(path, 'prestage.json'), 'utf8'), path)),
  );
  if (whole === undefined || other === undefined) throw new Error('no bundle was built');
  const stores = [STORE_IMAGE, STORE_IMAGE.replace('squashfs', 'verity')];
  for (const path of stores) await copyFile(join(less, path), join(directory, path));
  const fileOf = (file: BundleFile): BundleFile =>
    stores.includes(file.path) ? (other.files.find(({ path }) => path === file.path) ?? file) : file;
  const payloads = whole.payloads.map((payload) => {
    const its = other.payloads.find((one) => one.kind === 'store' && payload.kind === 'store' && one.stage === payload.stage);
    return payload.kind === 'store' && its?.kind === 'store' ? its : payload;
  });
  await writeFile(join(directory, 'prestage.json'), formatBundle({ ...whole, payloads, files: whole.files.map(fileOf) }));
}
