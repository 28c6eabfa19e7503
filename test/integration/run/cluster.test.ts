import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { makeCertificates } from '../../../agent/certificates/certificates.ts';
import { runBuild } from '../../support/build.ts';
import { TOP } from '../../support/cache.ts';
import { type Cluster, openCluster } from '../../support/cluster.ts';
import { author, PIN } from '../../support/ignition.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage, writeOciLayout } from '../../support/images.ts';
import { nodeUsr } from '../../support/podman-service.ts';
import { policyText, putPolicy, sigstoreDemand } from '../../support/policies.ts';
import { makeRegistryImage } from '../../support/registry-image.ts';
import { rendered } from '../../support/rendered.ts';
import { type NodeSandbox, openSandbox, sandboxUnavailable } from '../../support/sandbox.ts';
import { attachSignatures, makeSigningKey } from '../../support/signing.ts';

const PORT = 5005;
const DROP_IN = '/etc/containers/registries.conf.d/50-prestage.conf';

const unavailable = sandboxUnavailable();
const onNodes = (what: string, act: () => Promise<void>): void => {
  it(what, async (t) => {
    if (unavailable === undefined) await act();
    else t.skip(unavailable);
  });
};

const REPOSITORY = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
const key = makeSigningKey('rsa');

let scratch = '';
let tls = '';
let bundle = '';
let image: MadeImage;
let cluster: Cluster;
let server: NodeSandbox;
let client: NodeSandbox;

before(async () => {
  if (unavailable !== undefined) return;
  scratch = await mkdtemp(join(tmpdir(), 'cluster-run-'));
  tls = join(scratch, 'tls');
  bundle = join(scratch, 'bundle');
  await buildBundle();
  cluster = await openCluster(2);
  const [first, second] = cluster.nodes;
  assert.ok(first !== undefined && second !== undefined);
  await makeCertificates(author, { directory: tls, addresses: [first.address], days: 30 });
  const files = { certificate: join(tls, `${first.address}.crt`), key: join(tls, `${first.address}.key`) };
  const node0 = await rendered({
    stage: 'installed',
    agentSha256: PIN,
    bundle,
    serve: { address: first.address, port: PORT, ...files },
  });
  server = await openSandbox({ network: first.network, files: node0.files });
  const clients = { mirrors: [`${first.address}:${PORT}`], ca: join(tls, 'ca.crt'), bundle };
  // The podman of today, which knows sigstore signatures.
  client = await openSandbox({
    network: second.network,
    files: (await rendered({ stage: 'installed', clients })).files,
    usr: await nodeUsr(),
  });
  const run = /^ExecStart=\S+ (.*)$/m.exec(node0.units['prestage-agent-installed.service'] ?? '')?.[1] ?? '';
  const ended = await server.exec(process.execPath, [
    join(TOP, 'agent/main.ts'),
    ...run.split(' '),
    '--policy',
    'closed',
    '--bundle',
    bundle,
  ]);
  assert.equal(ended.exitCode, 0, `${ended.stdout}\n${ended.stderr}`);
});
after(async () => {
  for (const node of [client, server]) await node?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
  if (scratch !== '') await rm(scratch, { recursive: true, force: true });
});

/** A registry tree of an image and of the one that serves it, which build finds by itself. */
async function buildBundle(): Promise<void> {
  const [store, pulled] = [join(scratch, 'store'), join(scratch, 'pulled')];
  await mkdir(store);
  await mkdir(pulled);
  const layer = await makeLayer(store, [{ kind: 'file', path: 'etc/tool', content: 'tool' }]);
  image = await makeImage(store, { name: REPOSITORY, format: 'docker', layers: [layer] });
  const registry = await makeRegistryImage(store);
  const signatures = await attachSignatures(store, image, { key, reference: image.reference });
  await writeOciLayout(store, [image, registry, ...signatures], pulled);
  await writeFile(join(pulled, 'ocp-images.txt'), `${image.reference}\n${registry.reference}\n`);
  await runBuild({ from: pulled, to: bundle, payloads: ['registry'] });
}

onNodes('the run that the unit of a serving node starts serves the others by TLS, and itself', async () => {
  for (const node of [client, server]) {
    const { exitCode, stderr } = await node.exec('podman', ['pull', image.reference]);
    assert.equal(exitCode, 0, stderr);
  }
});

onNodes('a node whose policy demands signatures finds them at the one that serves', async () => {
  const pull = async () => await client.exec('podman', ['pull', image.reference]);
  await putPolicy(client, policyText({ [REPOSITORY]: sigstoreDemand(key) }));
  const { exitCode, stderr } = await pull();
  assert.equal(exitCode, 0, stderr);
  await putPolicy(client, policyText({ [REPOSITORY]: sigstoreDemand(makeSigningKey()) }));
  const refused = await pull();
  assert.notEqual(refused.exitCode, 0);
  assert.match(refused.stderr, /rejected|signature/i);
  await putPolicy(client, policyText({}));
});

onNodes('a node that pulls keeps its files as they were rendered, and the server has a drop-in of its own', async () => {
  assert.match(await client.output('cat', [DROP_IN]), /^# Rendered by: prestage-agent ignition clients/m);
  assert.doesNotMatch(await server.output('cat', [DROP_IN]), /prestage-agent ignition clients/);
});

onNodes('who does not know the CA, or speaks plain HTTP, gets nothing', async () => {
  const address = cluster.nodes[0]?.address ?? '';
  const trusting = ['--silent', '--output', '/dev/null', '--write-out', '%{http_code}'];
  const status = async (...args: readonly string[]) => (await client.exec('curl', [...trusting, ...args])).stdout;
  assert.equal(await status('--cacert', join(tls, 'ca.crt'), `https://${address}:${PORT}/v2/`), '200');
  assert.equal(await status(`https://${address}:${PORT}/v2/`), '000');
  assert.equal(await status(`http://${address}:${PORT}/v2/`), '400');
});
