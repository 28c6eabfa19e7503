import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readStageBundle } from '../../../../agent/bundle/read-payload.ts';
import type { StoreSource } from '../../../../agent/bundle/stage-bundle.ts';
import { hexOf } from '../../../../agent/model/digest.ts';
import { listOf, runBuild } from '../../../support/build.ts';
import { runnableRoot } from '../../../support/image-files.ts';
import { makeLayer } from '../../../support/image-layer.ts';
import { type MadeImage, makeImage, makeIndex, writeOciLayout } from '../../../support/images.ts';
import { makeRegistryImage } from '../../../support/registry-image.ts';
import { type NodeSandbox, openSandbox, sandboxUnavailable } from '../../../support/sandbox.ts';
import { type Called, callInside } from '../../../support/sandbox-call.ts';

const unavailable = sandboxUnavailable();
const ADDRESS = '127.0.0.1:5000';
const MIRROR = '/run/prestage-agent/mirror';
const STORE = '/var/lib/prestage-agent/store';
const SERVICE = 'agent/registry/serve/service.ts';

describe('the registry of a node', () => {
  let work: string;
  let registry: MadeImage;
  /** A tag, a digest, and the digest of a list. */
  let images: { readonly tag: MadeImage; readonly digest: MadeImage; readonly list: MadeImage };
  let store: StoreSource;
  before(async () => {
    if (unavailable !== undefined) return;
    work = await mkdtemp(join(tmpdir(), 'registry-service-'));
    ({ registry, images } = await makeImages(work));
    const pulled = join(work, 'pulled');
    await mkdir(pulled);
    const all = [registry, images.tag, images.digest, images.list];
    await writeOciLayout(work, all, pulled);
    await writeFile(join(pulled, 'ocp-images.txt'), listOf(all));
    const directory = join(work, 'bundle');
    await runBuild({ from: pulled, to: directory, payloads: ['store'] });
    store =
      (await readStageBundle({ directory, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined })).store ??
      assert.fail('no store was built');
  });
  after(async () => {
    if (work !== undefined) await rm(work, { recursive: true, force: true });
  });
  const onNodes = (what: string, act: (node: NodeSandbox) => Promise<void>): void => {
    it(what, async (t) => {
      if (unavailable !== undefined) return t.skip(unavailable);
      await using node = await openNode(store);
      await act(node);
    });
  };
  const requestOf = (more: object = {}) => ({
    tree: MIRROR,
    image: store.registryImage,
    imageStore: STORE,
    address: '127.0.0.1',
    port: 5000,
    ...more,
  });
  const start = async (node: NodeSandbox, more: object = {}): Promise<Called> => {
    const copied = await callInside(node, {
      module: 'agent/tree/metadata-copy.ts',
      name: 'copyMetadataTree',
      request: { from: store.mirror.path, files: store.mirror.files },
    });
    assert.deepEqual(copied, {});
    return await callInside(node, { module: SERVICE, name: 'startRegistry', request: requestOf(more) });
  };

  onNodes('answers every kind of pull from the metadata tree, and no layer is asked for', async (node) => {
    const started = await start(node);
    assert.deepEqual(withoutTime(started), { address: ADDRESS, how: 'podman', startMs: 'measured', wasRunning: false });
    for (const image of [registry, images.tag, images.digest, images.list]) {
      const pulled = await node.exec('podman', ['pull', image.reference]);
      assert.deepEqual([image.reference, pulled.exitCode, pulled.stderr.includes('Error')], [image.reference, 0, false], pulled.stderr);
      // Tags are never asked of a mirror: containers/image, docker.GetRepositoryTags.
      const inspected = JSON.parse(await node.output('skopeo', ['inspect', '--no-tags', `docker://${image.reference}`]));
      assert.equal(inspected.Name, image.reference.replace(/[:@].*/, ''));
    }
    const byDigest = `${images.tag.reference.replace(/:.*/, '')}@${images.tag.digest}`;
    await node.output('podman', ['pull', byDigest]);
    assert.equal(
      await node.output('podman', ['run', '--rm', '--network=host', '--pull=always', images.list.reference, 'cat', '/etc/name']),
      'list',
    );

    const asked = await servedBlobs(node);
    const layers = [registry, images.tag, images.digest, images.list].flatMap(({ instances }) =>
      instances.flatMap((instance) => instance.layers.map((layer) => hexOf(layer.digest))),
    );
    assert.notEqual(asked.length, 0);
    assert.deepEqual(
      asked.filter((hex) => layers.includes(hex)),
      [],
    );
  });

  onNodes('serves other nodes by its own certificate, as soon as the address is there', async (node) => {
    const names = ['-subj', '/CN=192.0.2.7', '-addext', 'subjectAltName=IP:192.0.2.7', '-keyout', '/run/tls.key', '-out', '/run/tls.crt'];
    await node.output('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      ...names,
    ]);
    const starting = start(node, { address: '192.0.2.7', tls: { certificate: '/run/tls.crt', key: '/run/tls.key' } });
    await sleep(500);
    await node.output('ip', ['address', 'add', '192.0.2.7/32', 'dev', 'lo']);
    const address = '192.0.2.7:5000';
    assert.deepEqual(withoutTime(await starting), { address, how: 'podman', startMs: 'measured', wasRunning: false });
    const local = `${address}/${images.digest.reference}`;
    const refused = await node.exec('podman', ['pull', local]);
    assert.match(refused.stderr, /x509|certificate/);
    await node.output('sh', [
      '-c',
      `mkdir -p /etc/containers/certs.d/${address}; cp /run/tls.crt /etc/containers/certs.d/${address}/ca.crt`,
    ]);
    await node.output('podman', ['pull', local]);
    // A certificate that is not the one that it was given is not it.
    await node.output('cp', ['/etc/ssl/certs/ca-certificates.crt', '/run/prestage-agent/registry/tls.crt']);
    assert.deepEqual(await callInside(node, { module: SERVICE, name: 'registryHealth', request: address }), {
      value: {
        healthy: false,
        reason: 'the server shows a certificate that is not the one of the registry',
        listener: { kind: 'ours' },
      },
    });
  });

  onNodes("runs in the node's own storage where no store is given, and leaves nothing there", async (node) => {
    const started = await start(node, { imageStore: undefined, storageConf: '/etc/containers/storage.conf' });
    assert.deepEqual(withoutTime(started), { address: ADDRESS, how: 'podman', startMs: 'measured', wasRunning: false });
    assert.equal(await node.output('podman', ['ps', '--format', '{{.Names}}']), 'prestage-registry');
    assert.deepEqual(await callInside(node, { module: SERVICE, name: 'stopRegistry' }), {});
    assert.equal(await node.output('podman', ['ps', '--all', '--quiet']), '');
  });

  onNodes('stays as it is where it does what is asked, and is replaced where it does not', async (node) => {
    await start(node);
    const pid = await readFile(node.path('/run/prestage-agent/registry/pid'), 'utf8');
    assert.deepEqual(withoutTime(await start(node)), { address: ADDRESS, how: 'podman', startMs: 'measured', wasRunning: true });
    assert.equal(await readFile(node.path('/run/prestage-agent/registry/pid'), 'utf8'), pid);
    assert.deepEqual(withoutTime(await start(node, { port: 5001 })), {
      address: '127.0.0.1:5001',
      how: 'podman',
      startMs: 'measured',
      wasRunning: false,
    });
    assert.equal((await node.exec('curl', ['-s', `http://${ADDRESS}/v2/`])).exitCode, 7);
  });

  onNodes('comes back after it was killed', async (node) => {
    await start(node);
    await node.output('kill', ['-KILL', await readFile(node.path('/run/prestage-agent/registry/pid'), 'utf8')]);
    const isBack = async (): Promise<boolean> => (await node.exec('curl', ['-s', `http://${ADDRESS}/v2/`])).stdout === '{}';
    for (let tries = 0; tries < 50 && !(await isBack()); tries++) await sleep(100);
    assert.deepEqual(await callInside(node, { module: SERVICE, name: 'registryHealth', request: ADDRESS }), {
      value: { healthy: true, reason: 'GET /v2/ answers', listener: { kind: 'ours' } },
    });
  });

  onNodes('is undone completely, also twice, and says then that it is gone', async (node) => {
    await start(node);
    assert.deepEqual(await callInside(node, { module: SERVICE, name: 'registryHealth', request: ADDRESS }), {
      value: { healthy: true, reason: 'GET /v2/ answers', listener: { kind: 'ours' } },
    });
    for (let times = 0; times < 2; times++) {
      assert.deepEqual(await callInside(node, { module: SERVICE, name: 'stopRegistry' }), {});
    }
    const left = await node.output('sh', [
      '-c',
      'ls /run/prestage-agent; grep -c prestage-agent/registry /proc/self/mountinfo; ps -e -o args= | grep -c "[d]istribution serve"; true',
    ]);
    assert.equal(left, 'mirror\n0\n0');
    assert.deepEqual(await callInside(node, { module: SERVICE, name: 'registryHealth', request: ADDRESS }), {
      value: { healthy: false, reason: 'no registry was started in this boot' },
    });
    // Nothing holds the store.
    await node.output('umount', [STORE]);
  });

  onNodes('names what is wrong, and leaves nothing behind', async (node) => {
    const listener = node.start('python3', ['-m', 'http.server', '--bind', '127.0.0.1', '5002']);
    const faults = [
      {
        more: { image: 'quay.io/example/none:v1' },
        code: 'ERR_REGISTRY_IMAGE',
        message: /^the registry image quay\.io\/example\/none:v1 is not in storage: /,
      },
      {
        more: { command: ['/usr/bin/none', 'serve'] },
        code: 'ERR_REGISTRY_IMAGE',
        message: /does not contain the program \/usr\/bin\/none: /,
      },
      {
        more: { command: ['/usr/bin/distribution', 'serve', '/etc/passwd'] },
        code: 'ERR_REGISTRY_START',
        message: /refuses its configuration: /,
      },
      {
        more: { tree: '/var/tmp' },
        code: 'ERR_REGISTRY_START',
        message: /^\/var\/tmp is not a registry tree: it holds nothing and no docker\/registry\/v2$/,
      },
      {
        more: { address: '192.0.2.7' },
        code: 'ERR_USAGE',
        message: /^the registry must serve other nodes on 192\.0\.2\.7, but has no certificate$/,
      },
      { more: { port: 5002 }, code: 'ERR_REGISTRY_TAKEN', message: /^127\.0\.0\.1:5002 is taken by python3 \(pid \d+\) of root$/ },
    ];
    while ((await node.exec('curl', ['-s', '-o', '/dev/null', 'http://127.0.0.1:5002/'])).exitCode !== 0) await sleep(50);
    for (const { more, code, message } of faults) {
      const called = await start(node, more);
      const error = 'error' in called ? called.error : assert.fail(`${code} did not come`);
      assert.deepEqual([error.code, message.test(error.message)], [code, true], error.message);
      assert.equal(await node.output('ls', ['/run/prestage-agent']), 'mirror');
    }
    listener.kill();
  });
});

function withoutTime(called: Called): unknown {
  const value = 'value' in called ? called.value : assert.fail(called.error.message);
  if (typeof value !== 'object' || value === null || !('startMs' in value)) return value;
  return { ...value, startMs: typeof value.startMs === 'number' && value.startMs < 15_000 ? 'measured' : value.startMs };
}

/** The blobs that the registry was asked for, by its log: `http.request.uri="/v2/…/blobs/sha256:…"`. */
async function servedBlobs(node: NodeSandbox): Promise<readonly string[]> {
  const log = await readFile(node.path('/run/prestage-agent/registry/registry.log'), 'utf8');
  return [...log.matchAll(/http\.request\.uri="[^"]*\/blobs\/sha256:([0-9a-f]{64})/g)].flatMap(([, hex]) => hex ?? []);
}

/** A node without a route, whose engines have the store and a mirror for quay.io. */
async function openNode(store: StoreSource): Promise<NodeSandbox> {
  const node = await openSandbox({
    files: {
      '/etc/containers/storage.conf': `[storage]\ndriver = "overlay"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n[storage.options]\nadditionalimagestores = ["${STORE}"]\n`,
      '/etc/containers/registries.conf': `[[registry]]\nprefix = "quay.io"\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "${ADDRESS}/quay.io"\ninsecure = true\n`,
    },
  });
  try {
    await node.output('mkdir', ['-p', STORE]);
    await node.output('mount', ['-t', 'squashfs', '-o', 'loop,ro', store.image.path, STORE]);
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  return node;
}

async function makeImages(work: string) {
  const base = await makeLayer(work, await runnableRoot(['sh', 'cat']));
  const own = async (name: string) => [
    base,
    await makeLayer(work, [
      { kind: 'directory', path: 'etc' },
      { kind: 'file', path: 'etc/name', content: name },
    ]),
  ];
  const named = { name: 'quay.io/example/tool', format: 'oci' } as const;
  return {
    registry: await makeRegistryImage(work),
    images: {
      tag: await makeImage(work, { ...named, tag: 'v1', layers: await own('tag') }),
      digest: await makeImage(work, { ...named, format: 'docker', layers: await own('digest') }),
      list: await makeIndex(work, {
        ...named,
        instances: [
          await makeImage(work, { ...named, layers: await own('list') }),
          await makeImage(work, { ...named, architecture: 'arm64', layers: await own('foreign') }),
        ],
      }),
    },
  };
}
