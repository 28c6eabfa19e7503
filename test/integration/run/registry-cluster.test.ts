import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { decodeDataUrl } from '../../../agent/model/data-url.ts';
import { parseConfig } from '../../../agent/units/config.ts';
import { type Cluster, openCluster } from '../../support/cluster.ts';
import { type MountNode, mountNodesUnavailable, openMountNode, type RunEnd } from '../../support/mount-node.ts';
import { assertPulls, etcOf, makeRegistryFixture, type RegistryFixture, requestsAt } from '../../support/registry-node.ts';

const unavailable = await mountNodesUnavailable();
const PORT = 305;
const TLS = '/etc/prestage-agent/tls';

describe('a node that serves the cluster', () => {
  let fixture: RegistryFixture;
  let cluster: Cluster;
  let server: MountNode;
  let bundle: string;
  let etc: Readonly<Record<string, string>>;
  before(async () => {
    if (unavailable !== undefined) return;
    fixture = await makeRegistryFixture();
    bundle = await fixture.bundleOf(['registry']);
    cluster = await openCluster(2);
    const { network, address } = nodeAt(0);
    await factory('certificates', '--directory', tls(), '--address', address);
    const files = {
      [`${TLS}/registry.crt`]: await readFile(join(tls(), `${address}.crt`), 'utf8'),
      [`${TLS}/registry.key`]: { content: await readFile(join(tls(), `${address}.key`), 'utf8'), mode: 0o600 },
      [`${TLS}/ca.crt`]: await readFile(join(tls(), 'ca.crt'), 'utf8'),
    };
    server = await openMountNode(fixture, { network, files });
    etc = await etcOf(server);
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
    await fixture?.[Symbol.asyncDispose]();
  });
  const onNodes = (what: string, act: () => Promise<void>): void => {
    it(what, async (t) => (unavailable === undefined ? await act() : t.skip(unavailable)));
  };
  const nodeAt = (index: number): Cluster['nodes'][number] => cluster.nodes[index] ?? assert.fail();
  const tls = (): string => join(fixture.work, 'tls');
  const factory = async (...args: readonly string[]): Promise<string> => (await promisify(execFile)(fixture.executable, args)).stdout;
  const serve = async (...more: readonly string[]): Promise<RunEnd> =>
    await server.run(['--stage', 'installed', '--delivery', 'registry', '--bundle', bundle, ...more]);
  const toCluster = (): readonly string[] => ['--serve', 'cluster', '--serve-address', nodeAt(0).address];

  /** Addresses on which the node listens at the port of the registry. Source: proc_pid_net(5): little-endian hex, state 0A. */
  async function listening(): Promise<readonly string[]> {
    const tables = await server.output('cat', ['/proc/net/tcp', '/proc/net/tcp6']);
    return tables.split('\n').flatMap((line) => {
      const [, local = '', , state] = line.trim().split(/ +/);
      const [address = '', port = ''] = local.split(':');
      if (state !== '0A' || Number.parseInt(port, 16) !== PORT) return [];
      return [address.length === 8 ? [...Buffer.from(address, 'hex').reverse()].join('.') : address];
    });
  }

  /** A node with nothing but the files of `ignition clients`. */
  async function openClient(): Promise<MountNode> {
    const mirror = `${nodeAt(0).address}:${PORT}`;
    const rendered = await factory('ignition', 'clients', '--mirror', mirror, '--ca', join(tls(), 'ca.crt'), '--bundle', bundle);
    const files = parseConfig(rendered, 'rendered').storage?.files ?? [];
    const contents = files.map(({ path, contents: put }) => {
      const decoded = decodeDataUrl(put?.source ?? '');
      return [path, decoded.kind === 'bytes' ? Buffer.from(decoded.bytes).toString('utf8') : assert.fail(path)] as const;
    });
    return await openMountNode(fixture, { network: nodeAt(1).network, files: Object.fromEntries(contents) });
  }

  onNodes('listens on loopback alone until it is told to serve others', async () => {
    const { exitCode, stderr } = await serve();
    assert.equal(exitCode, 0, stderr);
    assert.deepEqual(await listening(), ['127.0.0.1']);
  });

  onNodes('then listens on its address alone, and pulls from itself by TLS', async () => {
    const { exitCode, state, stderr } = await serve(...toCluster());
    assert.deepEqual([exitCode, state.registry?.address, state.notices], [0, `${nodeAt(0).address}:${PORT}`, []], stderr);
    assert.deepEqual(await listening(), [nodeAt(0).address]);
    await assertPulls(server, fixture.all);
    const { readiness } = await server.status();
    assert.equal(readiness, 'ready');
  });

  onNodes('serves another node that has the files of "ignition clients" and nothing else', async () => {
    await using client = await openClient();
    const before = (await requestsAt(server)).length;
    await assertPulls(client, fixture.all);
    assert.ok((await requestsAt(server)).length > before);
  });

  onNodes('says that it does not trust itself where the CA is not beside its certificate', async () => {
    const [certificate, key] = ['/run/registry.crt', '/run/registry.key'];
    await server.output('cp', [`${TLS}/registry.crt`, certificate]);
    await server.output('cp', [`${TLS}/registry.key`, key]);
    const { exitCode, state } = await serve(...toCluster(), '--tls-certificate', certificate, '--tls-key', key);
    assert.deepEqual(
      [exitCode, state.notices],
      [0, ['/run/ca.crt does not exist: this node trusts its own registry only if it already trusts the CA of its certificate']],
    );
  });

  const refused = [
    {
      what: 'an address on loopback',
      flags: ['--serve-address', '127.0.0.2'],
      code: 'ERR_SETTINGS',
      message: /serve-address cannot be used: "127\.0\.0\.2" cannot be reached by other nodes: only the machine itself can reach it$/,
    },
    {
      what: 'an IPv6 address, which would make every pull fail',
      flags: ['--serve-address', '2001:db8::1'],
      code: 'ERR_SETTINGS',
      message: /"\[2001:db8::1\]:305" is an IPv6 address, which container tools do not accept as a registry/,
    },
    {
      what: 'an address that the certificate is not for',
      flags: ['--serve-address', '192.0.2.77'],
      code: 'ERR_CERTIFICATE',
      message: /^the other nodes would refuse .*registry\.crt: it is for IP Address:192\.0\.2\.1, not for 192\.0\.2\.77$/,
    },
    {
      what: 'the key of another certificate',
      flags: ['--serve-address', '192.0.2.1', '--tls-key', '/run/other.key'],
      code: 'ERR_CERTIFICATE',
      message: /^the other nodes would refuse .*registry\.crt: \/run\/other\.key is the key of another certificate$/,
    },
  ];
  for (const { what, flags, code, message } of refused) {
    onNodes(`refuses ${what}`, async () => {
      await server.output('openssl', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', '/run/other.key']);
      const { state } = await serve('--serve', 'cluster', ...flags);
      assert.equal(state.error?.code, code);
      assert.match(state.error?.message ?? '', message);
    });
  }

  onNodes('leaves nothing when it is released', async () => {
    await serve(...toCluster());
    assert.equal((await server.agent(['release', '--yes'])).exitCode, 0);
    assert.deepEqual([await listening(), await server.ourMounts()], [[], []]);
    assert.deepEqual(await etcOf(server), etc);
  });
});
