import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeCertificates } from '../../../agent/certificates/certificates.ts';
import { DROP_IN_PATH } from '../../../agent/engine/registries-drop-in.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { hexOf } from '../../../agent/model/digest.ts';
import { waitFor } from '../../support/agent.ts';
import { runBuild } from '../../support/build.ts';
import { type Cluster, type ClusterServer, openCluster, startServer } from '../../support/cluster.ts';
import { author } from '../../support/ignition.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage, writeOciLayout } from '../../support/images.ts';
import { type Rendered, rendered } from '../../support/rendered.ts';
import { type NodeSandbox, openSandbox, sandboxUnavailable } from '../../support/sandbox.ts';

const PORT = 305;
/** Of the big layer, which random bytes in base64 are at best once more. */
const BIG_BYTES = 24 * 1024 * 1024;

/** Of the first server, where a layer is to take some seconds. */
const RATE = '40mbit';

const unavailable = sandboxUnavailable();
const onNodes = (what: string, act: () => Promise<void>): void => {
  it(what, async (t) => {
    if (unavailable === undefined) await act();
    else t.skip(unavailable);
  });
};

let scratch = '';
let tls = '';
let bundle = '';
let small: MadeImage;
let big: MadeImage;
let cluster: Cluster;
let client: NodeSandbox;
let servers: readonly ClusterServer[] = [];

before(async () => {
  if (unavailable !== undefined) return;
  scratch = await mkdtemp(join(tmpdir(), 'cluster-'));
  tls = join(scratch, 'tls');
  bundle = join(scratch, 'bundle');
  await buildBundle();
  cluster = await openCluster(3);
  await makeCertificates(author, { directory: tls, addresses: cluster.nodes.slice(0, 2).map(({ address }) => address), days: 30 });
  client = await openSandbox({ network: nodeAt(2).network, files: await clientFiles() });
  servers = [await serve(0), await serve(1)];
});
afterEach(async () => {
  await client?.output('podman', ['rmi', '--all', '--force']);
});
after(async () => {
  await client?.[Symbol.asyncDispose]();
  for (const server of servers) await server[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
  if (scratch !== '') await rm(scratch, { recursive: true, force: true });
});

/** A registry tree of two images: one with a tag, the other, with a big layer, by its digest, as release components are. */
async function buildBundle(): Promise<void> {
  const [store, pulled] = [join(scratch, 'store'), join(scratch, 'pulled')];
  await mkdir(store);
  await mkdir(pulled);
  const base = await makeLayer(store, [{ kind: 'file', path: 'etc/base', content: 'base' }]);
  const noise = randomBytes((BIG_BYTES / 4) * 3).toString('base64');
  const heavy = await makeLayer(store, [{ kind: 'file', path: 'opt/noise', content: noise }]);
  small = await makeImage(store, { name: 'quay.io/example/tool', tag: 'latest', format: 'oci', layers: [base] });
  big = await makeImage(store, { name: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev', format: 'docker', layers: [base, heavy] });
  await writeOciLayout(store, [small, big], pulled);
  await writeFile(join(pulled, 'ocp-images.txt'), `${small.reference}\n${big.reference}\n`);
  await runBuild({ from: pulled, to: bundle, payloads: ['registry'] });
}

function nodeAt(index: number): Cluster['nodes'][number] {
  const node = cluster.nodes[index];
  assert.ok(node);
  return node;
}

async function serve(index: number): Promise<ClusterServer> {
  const node = nodeAt(index);
  const files = { certificate: join(tls, `${node.address}.crt`), key: join(tls, `${node.address}.key`) };
  return await startServer({ node, port: PORT, tree: join(bundle, 'registry'), ...files });
}

/** The files of `ignition clients` by their paths. */
async function clientFiles(): Promise<Rendered['files']> {
  const mirrors = cluster.nodes.slice(0, 2).map(({ address }) => `${address}:${PORT}`);
  return (await rendered({ stage: 'installed', clients: { mirrors, ca: join(tls, 'ca.crt'), bundle } })).files;
}

/** What each server has answered since the last call, without the first question `GET /v2/`. */
function newRequests(): () => readonly (readonly string[])[] {
  const before = servers.map((server) => server.requests().length);
  return () =>
    servers.map((server, index) =>
      server
        .requests()
        .slice(before[index])
        .filter((line) => !line.includes(' /v2/ ')),
    );
}

/** Waits until the first server has sent the config of the big image, and so is at its big layer, for some more seconds. */
async function inMidLayer(requests: () => readonly (readonly string[])[]): Promise<void> {
  const config = hexOf(big.instances[0]?.config.digest ?? big.digest);
  await waitFor('the config', async () => (requests()[0]?.some((line) => line.includes(config)) ? true : undefined));
  await sleep(500);
}

function pathOf(image: MadeImage): string {
  return `/v2/${image.reference.replace(/[:@][^/]*$/, '')}`;
}

function manifestRequest(image: MadeImage): string {
  return `GET ${pathOf(image)}/manifests/${image === small ? 'latest' : image.digest} 200`;
}

function layerRequest(image: MadeImage): string {
  return `GET ${pathOf(image)}/blobs/${image.instances[0]?.layers.at(-1)?.digest} 200`;
}

onNodes('a node with the rendered files pulls by tag and by digest from the first server, though nothing else can be reached', async () => {
  const requests = newRequests();
  for (const image of [small, big]) {
    await client.output('podman', ['pull', image.reference]);
    assert.equal((await client.exec('podman', ['image', 'exists', image.reference])).exitCode, 0);
  }
  const [first = [], second] = requests();
  assert.deepEqual(second, []);
  for (const image of [small, big]) assert.ok(first.includes(manifestRequest(image)), first.join('\n'));
});

onNodes('where the first server is cut off the second serves, and the first again when it is back', async () => {
  await nodeAt(0).cut();
  // A node that has heard of the server a moment ago waits 30 s for an answer; one that has not finds out after some.
  await output(execOnLinux, 'ip', ['-n', nodeAt(2).network, 'neighbour', 'flush', 'dev', 'eth0']);
  const requests = newRequests();
  await client.output('podman', ['pull', small.reference]);
  await nodeAt(0).mend();
  assert.deepEqual(
    requests().map((lines) => lines.includes(layerRequest(small))),
    [false, true],
  );
  await client.output('podman', ['rmi', '--all', '--force']);
  const later = newRequests();
  await client.output('podman', ['pull', small.reference]);
  assert.deepEqual(
    later().map((lines) => lines.includes(layerRequest(small))),
    [true, false],
  );
});

onNodes('a server that goes down in the middle of a layer costs one attempt: the next one of a loop is served by the other', async () => {
  await nodeAt(0).limit(RATE);
  const requests = newRequests();
  const loop = 'n=1; while ! podman pull "$1"; do sleep 1; n=$((n+1)); done; echo "attempts: $n"';
  const pulling = client.exec('bash', ['-c', loop, 'bash', big.reference]);
  await inMidLayer(requests);
  await servers[0]?.kill();
  const { exitCode, stdout, stderr } = await pulling;
  const answered = requests();
  await nodeAt(0).unlimit();
  servers = [await serve(0), ...servers.slice(1)];
  assert.match(stderr, /unexpected EOF/);
  assert.deepEqual([exitCode, stdout.split('\n').at(-1)], [0, 'attempts: 2'], stderr);
  assert.deepEqual(
    answered.map((lines) => lines.includes(layerRequest(big))),
    [false, true],
  );
});

onNodes('a server that is cut off in the middle of a layer costs time: podman tries again by itself and the other one serves', async () => {
  // podman asks a silent connection every 30 s whether it is alive, and gives it up after so many questions: 9 on a node, which are 5 minutes.
  await output(execOnLinux, 'ip', ['netns', 'exec', nodeAt(2).network, 'sysctl', '--quiet', '--write', 'net.ipv4.tcp_keepalive_probes=1']);
  await nodeAt(0).limit(RATE);
  const requests = newRequests();
  const pulling = client.exec('podman', ['pull', big.reference], { timeoutMs: 180_000 });
  await inMidLayer(requests);
  await nodeAt(0).cut();
  const { exitCode, stderr } = await pulling;
  await nodeAt(0).unlimit();
  await nodeAt(0).mend();
  assert.match(stderr, /Failed, retrying in 1s \.\.\. \(1\/3\).*connection timed out/);
  assert.equal(exitCode, 0, stderr);
  assert.deepEqual(
    requests().map((lines) => lines.includes(manifestRequest(big))),
    [true, true],
  );
  assert.ok(requests()[1]?.includes(layerRequest(big)));
});

onNodes('without the CA, or with another one, a node takes nothing from the servers', async () => {
  const { [DROP_IN_PATH]: dropIn, ...certificates } = await clientFiles();
  assert.ok(dropIn);
  const stranger = join(scratch, 'stranger');
  await makeCertificates(author, { directory: stranger, addresses: ['192.0.2.9'], days: 1 });
  const other = await readFile(join(stranger, 'ca.crt'), 'utf8');
  const strangers = Object.fromEntries(Object.keys(certificates).map((path) => [path, other]));
  for (const files of [{}, strangers]) {
    await using node = await openSandbox({ network: nodeAt(2).network, files: { [DROP_IN_PATH]: dropIn, ...files } });
    const requests = newRequests();
    const { exitCode, stderr } = await node.exec('podman', ['pull', small.reference]);
    assert.equal(exitCode, 125);
    assert.match(stderr, /x509: certificate signed by unknown authority/);
    // What was cut off in the test before may be logged only now.
    assert.deepEqual(
      requests().map((lines) => lines.filter((line) => line.includes(pathOf(small)))),
      [[], []],
    );
  }
});
