import assert from 'node:assert/strict';
import { randomBytes, X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ignitionOptions } from '../../../agent/cli/ignition-options.ts';
import type { Host } from '../../../agent/host/host.ts';
import { BUNDLE_FILE, formatBundle, signaturePath } from '../../../agent/model/bundle.ts';
import { decodeDataUrl } from '../../../agent/model/data-url.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { type ErrorRecord, errorRecord } from '../../../agent/model/errors.ts';
import type { Stage } from '../../../agent/model/stage.ts';
import { type IgnitionConfig, parseConfig } from '../../../agent/units/config.ts';
import { type IgnitionOptions, type IgnitionOutcome, runIgnition } from '../../../agent/units/ignition.ts';
import { writeTestCertificates } from '../../support/certificates.ts';
import { assertGolden } from '../../support/golden.ts';
import { author, ourIgnition, PIN } from '../../support/ignition.ts';
import { thrownBy } from '../../support/thrown.ts';

const DAY_MS = 86_400_000;
const DAYS = 1000;
const RELEASE = 'quay.io/openshift-release-dev/ocp-release';
const COMPONENT = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
const REGISTRY = 'quay.io/example/registry:v1';
const MIRRORS = ['192.0.2.10:305', 'node1.example.com:5000'];
const DROP_IN = '/etc/containers/registries.conf.d/50-prestage.conf';

let scratch = '';
let tls = '';
let bundle = '';
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'ignition-cluster-'));
  tls = join(scratch, 'tls');
  bundle = join(scratch, 'bundle');
  await writeTestCertificates({ directory: tls, addresses: ['192.0.2.10', 'node1.example.com'], days: DAYS });
  await writeBundle(bundle, 'installed', [
    `${COMPONENT}@sha256:${'b'.repeat(64)}`,
    `${RELEASE}:4.14.0-x86_64`,
    `${COMPONENT}@sha256:${'a'.repeat(64)}`,
    'registry.example.com:5000/tools/troubleshoot:latest',
  ]);
});
after(() => rm(scratch, { recursive: true, force: true }));

/** The manifest of a bundle with images of these names, which is all that is read of it here. */
async function writeBundle(directory: string, stage: Stage, names: readonly string[], isSigned = false): Promise<void> {
  const signature = digestOf('signature');
  const images = names.map((name) => ({
    reference: name,
    names: [name],
    manifestDigest: digestOf(name),
    ...(isSigned && { signatures: [{ kind: 'sigstore' as const, subject: digestOf(name), manifest: signature }] }),
    compressedBytes: 1,
    unpackedBytes: 1,
  }));
  await mkdir(directory, { recursive: true });
  const facts = { apiVersion: 'prestage-agent/v1', kind: 'Bundle', release: '4.14.0', architecture: 'amd64' } as const;
  const origin = { createdAt: '2026-01-01T00:00:00Z', createdBy: { name: 'test', version: '0' } };
  await writeFile(
    join(directory, BUNDLE_FILE),
    formatBundle({
      ...facts,
      ...origin,
      stages: { [stage]: { images } },
      payloads: [],
      files: isSigned ? [{ path: signaturePath(signature), sizeBytes: 1, sha256: hexOf(signature) }] : [],
    }),
  );
}

function server(options: Partial<IgnitionOptions> = {}): Partial<IgnitionOptions> {
  const files = { certificate: join(tls, '192.0.2.10.crt'), key: join(tls, '192.0.2.10.key') };
  return { stage: 'installed', agentSha256: PIN, serve: { address: '192.0.2.10', ...files }, ...options };
}

function clients(options: Partial<IgnitionOptions> = {}, mirrors = MIRRORS): Partial<IgnitionOptions> {
  return { stage: 'installed', clients: { mirrors, ca: join(tls, 'ca.crt'), bundle }, ...options };
}

async function render(options: Partial<IgnitionOptions>, host: Pick<Host, 'log' | 'clock'> = author): Promise<IgnitionOutcome> {
  return await runIgnition({ stage: 'installed', ...options }, host);
}

async function refused(options: Partial<IgnitionOptions>, host?: Pick<Host, 'log' | 'clock'>): Promise<ErrorRecord> {
  try {
    await render(options, host);
  } catch (error) {
    return errorRecord(error);
  }
  return assert.fail('it was not refused');
}

function later(days: number): Pick<Host, 'log' | 'clock'> {
  return { ...author, clock: { ...author.clock, now: () => new Date(Date.now() + days * DAY_MS) } };
}

/** Path, mode and text of each file of a config. */
function filesOf(config: IgnitionConfig): readonly (readonly [string, number | null | undefined, string])[] {
  return (config.storage?.files ?? []).map(({ path, mode, contents }) => {
    const decoded = decodeDataUrl(contents?.source ?? '');
    return [path, mode, decoded.kind === 'bytes' ? Buffer.from(decoded.bytes).toString('utf8') : decoded.message] as const;
  });
}

async function text(name: string): Promise<string> {
  return await readFile(join(tls, name), 'utf8');
}

test('a serving node gets what every node of the stage gets, and certificate, key and CA', async () => {
  const { text: rendered, warnings } = await render(server());
  const config = parseConfig(rendered, 'rendered');
  const plain = ourIgnition('installed', { spec: '3.2.0' });
  assert.deepEqual(filesOf(config), [
    ...filesOf(plain),
    ['/etc/prestage-agent/tls/registry.crt', 0o644, await text('192.0.2.10.crt')],
    ['/etc/prestage-agent/tls/registry.key', 0o600, await text('192.0.2.10.key')],
    ['/etc/prestage-agent/tls/ca.crt', 0o644, await text('ca.crt')],
  ]);
  const [unit] = config.systemd?.units ?? [];
  const [plainUnit] = plain.systemd?.units ?? [];
  const added = ' --delivery registry --serve cluster --serve-address 192.0.2.10';
  assert.equal(unit?.contents, plainUnit?.contents?.replace('--lock-wait 600', `--lock-wait 600${added}`));
  assert.deepEqual(warnings, [
    'the override contains the private key of the registry at 192.0.2.10: anyone who can read it can impersonate that registry',
  ]);
});

test('a port is passed on to the node, and a host name in lower case', async () => {
  const files = { certificate: join(tls, 'node1.example.com.crt'), key: join(tls, 'node1.example.com.key'), ca: join(tls, 'ca.crt') };
  const { text: rendered } = await render(server({ serve: { address: 'Node1.Example.com', port: 5000, ...files } }));
  assert.match(rendered, / --delivery registry --serve cluster --serve-address node1\.example\.com --registry-port 5000\\n/);
});

test('delivery, trust, placement and the image of the registry are passed on to the node', async () => {
  const { text: rendered } = await render({
    stage: 'discovery',
    delivery: 'mount',
    trust: 'hash',
    placement: 'ram',
    registryImage: REGISTRY,
    bundleSha256: PIN,
  });
  assert.match(
    rendered,
    new RegExp(` --bundle-sha256 ${PIN} --delivery mount --trust hash --placement ram --registry-image ${REGISTRY}\\\\n`),
  );
});

test('a node that serves others cannot take another delivery than registry', async () => {
  for (const delivery of ['extract', 'mount', 'auto'] as const) {
    assert.deepEqual(await refused(server({ delivery })), {
      code: 'ERR_USAGE',
      message: `--serve cluster cannot be combined with --delivery ${delivery}: other nodes need a registry with all layers`,
      remedy: 'Omit --delivery, and build the bundle with --payload registry',
    });
  }
  assert.deepEqual((await render(server({ delivery: 'registry' }))).text, (await render(server())).text);
});

test('a certificate that the other nodes would refuse is refused where it is rendered', async () => {
  const certificate = join(tls, '192.0.2.10.crt');
  const key = join(tls, '192.0.2.10.key');
  const stranger = join(scratch, 'stranger');
  await writeTestCertificates({ directory: stranger, addresses: ['192.0.2.99'], days: 1 });
  const given = { address: '192.0.2.10', certificate, key };
  const end = new X509Certificate(await readFile(certificate)).validToDate.toISOString();
  const begin = `${certificate}: the other nodes would refuse it: `;
  const messages = [
    await refused(server({ serve: { ...given, address: '192.0.2.11' } })),
    await refused(server({ serve: { ...given, key: join(tls, 'node1.example.com.key') } })),
    await refused(server({ serve: { ...given, ca: join(stranger, 'ca.crt') } })),
    await refused(server({ serve: given }), later(DAYS + 0.5)),
  ].map(({ code, message }) => [code, message]);
  assert.deepEqual(messages, [
    ['ERR_CERTIFICATE', `${begin}it is for IP Address:192.0.2.10, not for 192.0.2.11`],
    ['ERR_CERTIFICATE', `${begin}the key belongs to another certificate`],
    ['ERR_CERTIFICATE', `${begin}the CA has not issued it`],
    ['ERR_CERTIFICATE', `${begin}it expired at ${end}`],
  ]);
});

test('an address at which other nodes find no registry is refused', async () => {
  const given = { certificate: join(tls, '192.0.2.10.crt'), key: join(tls, '192.0.2.10.key') };
  const messages = await Promise.all(
    ['0.0.0.0', '2001:db8::1', '*.example.com', '127.0.0.1', '192.0.2.10:5000'].map(
      async (address) => (await refused(server({ serve: { address, ...given } }))).message,
    ),
  );
  assert.deepEqual(messages, [
    '--address "0.0.0.0" cannot be reached by other nodes: it stands for all addresses of a machine, not for one',
    '--address "2001:db8::1:443" is an IPv6 address, which container tools do not accept as a registry: give a host name',
    '--address "*.example.com" is a wildcard: give the name of each server',
    '--address "127.0.0.1" cannot be reached by other nodes: only the machine itself can reach it',
    '--address "192.0.2.10:5000" is neither an IP address nor a host name',
  ]);
});

test('files that cannot be read are named with their flag', async () => {
  const given = { address: '192.0.2.10', certificate: join(tls, '192.0.2.10.crt'), key: join(tls, '192.0.2.10.key') };
  const nowhere = join(scratch, 'nowhere');
  const errors = [
    await refused(server({ serve: { ...given, certificate: nowhere, ca: join(tls, 'ca.crt') } })),
    await refused(server({ serve: { ...given, key: nowhere } })),
    await refused(server({ serve: { ...given, ca: nowhere } })),
    await refused(clients({ clients: { mirrors: MIRRORS, ca: nowhere, bundle } })),
    await refused(clients({ clients: { mirrors: MIRRORS, ca: join(tls, 'ca.crt'), bundle, registries: nowhere } })),
  ];
  assert.deepEqual(
    errors.map(({ code, remedy }) => [code, remedy]),
    [
      ['ERR_USAGE', 'Set --certificate to the path of a readable certificate'],
      ['ERR_USAGE', 'Set --key to the path of a readable private key'],
      ['ERR_USAGE', 'Set --ca to the path of a readable certificate'],
      ['ERR_USAGE', 'Set --ca to the path of a readable certificate'],
      ['ERR_USAGE', 'Set --registries to the path of a readable registries.conf'],
    ],
  );
});

test('nodes that pull from others get the mirrors in their order and the CA for each, and nothing else', async () => {
  const { text: rendered, warnings } = await render(clients());
  const config = parseConfig(rendered, 'rendered');
  const files = filesOf(config);
  const ca = await text('ca.crt');
  assert.deepEqual(Object.keys(config), ['ignition', 'storage']);
  assert.deepEqual(Object.keys(config.storage ?? {}), ['files']);
  assert.deepEqual(
    files.map(([path, mode, content]) => [path, mode, path === DROP_IN ? 'drop-in' : content]),
    [
      [DROP_IN, 0o644, 'drop-in'],
      ['/etc/containers/certs.d/192.0.2.10:305/prestage-ca.crt', 0o644, ca],
      ['/etc/containers/certs.d/node1.example.com:5000/prestage-ca.crt', 0o644, ca],
    ],
  );
  assertGolden('ignition/clients.50-prestage.conf', files[0]?.[2] ?? '');
  assert.deepEqual([config.ignition.version, warnings], ['3.2.0', []]);
});

test('nodes that pull signed images look for signatures at each mirror, but for keys that the override has in another file', async () => {
  const signed = join(scratch, 'signed');
  await writeBundle(signed, 'installed', [`${RELEASE}:4.22.0-x86_64`], true);
  const place = '/etc/containers/registries.d/50-prestage.yaml';
  const other = '/etc/containers/registries.d/10-other.yaml';
  const options = { stage: 'installed', clients: { mirrors: MIRRORS, ca: join(tls, 'ca.crt'), bundle: signed } } as const;
  const keys = `  "192.0.2.10:305":
    use-sigstore-attachments: true
  "node1.example.com:5000":
    use-sigstore-attachments: true
`;
  const ofOurs = (outcome: IgnitionOutcome): string | undefined =>
    filesOf(parseConfig(outcome.text, 'rendered')).find(([path]) => path === place)?.[2];
  const plain = await render(options);
  assert.equal(
    ofOurs(plain),
    `# Written by prestage-agent; removed by: prestage-agent release
# Rendered by: prestage-agent ignition clients. Where the node has no prestage-agent, remove this file and certs.d/*/prestage-ca.crt by hand.
# Signatures lie beside the images that the registries of prestage-agent serve.
docker:
${keys}`,
  );
  const mergeOf = async (contents: object | undefined): Promise<IgnitionOutcome> => {
    const merge = join(scratch, 'with-registries-d.ign');
    const files = [
      { path: other, ...(contents && { contents }) },
      { path: '/etc/containers/registries.d/README', contents: {} },
    ];
    await writeFile(merge, JSON.stringify({ ignition: { version: '3.2.0' }, storage: { files } }));
    return await render({ ...options, merge });
  };
  const inline = (yaml: string): object => ({ source: `data:,${encodeURIComponent(yaml)}` });
  const [first = '', second = ''] = keys.split(/(?= {2}"node1)/);

  const one = await mergeOf(inline(`docker:\n${first}`));
  assert.deepEqual([ofOurs(one)?.endsWith(`docker:\n${second}`), one.warnings], [true, []]);
  const both = await mergeOf(inline(`docker:\n${keys}`));
  assert.deepEqual([ofOurs(both), both.warnings], [undefined, []]);
  const refusing = `nodes will not look for signatures at these mirrors, because ${place} cannot be added: `;
  const against = await mergeOf(inline('docker:\n  192.0.2.10:305:\n    lookaside: https://a.example\n'));
  assert.deepEqual(
    [ofOurs(against), against.warnings],
    [undefined, [`${refusing}${other} has the key "192.0.2.10:305" without use-sigstore-attachments`]],
  );
  const broken = await mergeOf(inline('docker: 7\n'));
  assert.deepEqual([ofOurs(broken), broken.warnings.length], [undefined, 1]);
  assert.match(broken.warnings[0] ?? '', /registries\.d\/10-other\.yaml: docker: /);
  assert.equal(ofOurs(await mergeOf(undefined)), ofOurs(plain));
  assert.equal(ofOurs(await mergeOf({})), ofOurs(plain));
  const unseen = `${other} of the override cannot be read: if it has the key of a mirror, every pull on these nodes fails`;
  for (const contents of [{ source: 'https://a.example/10-other.yaml' }, { ...inline('docker: {}'), compression: 'gzip' }]) {
    const { warnings } = await mergeOf(contents);
    assert.ok(warnings.includes(unseen), warnings.join('\n'));
  }
});

test('one mirror alone comes with a warning, for it is a single point', async () => {
  const { warnings } = await render(clients({}, ['192.0.2.10:305']));
  assert.deepEqual(warnings, [
    'there is only one mirror: if its node is down, images come from their source registries; add a second --mirror',
  ]);
});

test('a CA that ends within months comes with a warning, one that has ended is refused', async () => {
  const path = join(tls, 'ca.crt');
  const { validToDate, subject } = new X509Certificate(await readFile(path));
  assert.deepEqual((await render(clients(), later(DAYS - 80))).warnings, [
    `the certificate ${subject} expires on ${validToDate.toISOString().slice(0, 10)}; after that, nodes refuse the mirror`,
  ]);
  assert.deepEqual(await refused(clients(), later(DAYS + 2)), {
    code: 'ERR_CERTIFICATE',
    message: `${path} cannot be trusted as a CA: it expired at ${validToDate.toISOString()}`,
    remedy: 'Use the certificate of the CA that signed the servers: ca.crt of prestage-agent certificates',
  });
});

test('no key reaches nodes that pull from others, also where the wrong file is given', async () => {
  const both = join(scratch, 'both.pem');
  await writeFile(both, `${await text('ca.crt')}${await text('ca.key')}`);
  const given = (ca: string) => clients({ clients: { mirrors: MIRRORS, ca, bundle } });
  assert.deepEqual(
    [(await refused(given(both))).message, (await refused(given(join(tls, 'ca.key')))).message],
    [both, join(tls, 'ca.key')].map((path) => `${path} contains a private key, but only certificates are expected`),
  );
  assert.equal(
    (await refused(given(join(tls, '192.0.2.10.crt')))).message,
    `${join(tls, '192.0.2.10.crt')} cannot be trusted as a CA: it is not the certificate of a CA`,
  );
});

test('mirrors that nodes cannot ask are refused, all at once', async () => {
  const mirrors = ['192.0.2.10:', '[2001:db8::1]:305', 'localhost:305', 'a:0', 'a:70000', 'https://a:1', 'b:305', 'B'];
  assert.deepEqual(await refused(clients({}, mirrors)), {
    code: 'ERR_USAGE',
    message: [
      'nodes cannot pull from these mirrors: 7 faults',
      '"192.0.2.10:" is not HOST:PORT',
      '"[2001:db8::1]:305" is an IPv6 address, which container tools do not accept as a registry: give a host name',
      '"localhost" cannot be reached by other nodes: only the machine itself can reach it',
      '"a:0" is not HOST:PORT',
      '"a:70000" is not HOST:PORT',
      '"https://a" is neither an IP address nor a host name',
      '"b:305" is given twice',
    ].join('\n'),
    remedy: 'Set each --mirror to HOST:PORT, the address and the port of a node that serves the cluster; without a port it is 305',
  });
});

test('a mirror without a port is at the default port of the servers', async () => {
  assert.deepEqual(
    await render(clients({}, ['192.0.2.10', 'node2.example.com'])),
    await render(clients({}, ['192.0.2.10:305', 'node2.example.com:305'])),
  );
});

test('mirrors that the nodes have already stay in use behind ours', async () => {
  const registries = join(scratch, 'registries.conf');
  const entry = `[[registry]]\nprefix = "${COMPONENT}"\nlocation = "${COMPONENT}"\n[[registry.mirror]]\nlocation = "mirror.example.com/release"\n`;
  await writeFile(registries, entry);
  const { text: rendered } = await render(clients({ clients: { mirrors: MIRRORS, ca: join(tls, 'ca.crt'), bundle, registries } }));
  const dropIn = filesOf(parseConfig(rendered, 'rendered'))[0]?.[2] ?? '';
  const locations = [...dropIn.matchAll(/^location = "(.*)"$/gm)]
    .map(([, location]) => location)
    .filter((name) => name?.includes('example.com'));
  assert.ok(locations.includes('mirror.example.com/release'));
});

test('the bundle decides which stage can be pulled', async () => {
  const error = await refused(clients({ stage: 'discovery' }));
  assert.deepEqual([error.code, error.message], ['ERR_PAYLOAD_MISSING', `${bundle} has no stage "discovery"; its stages: installed`]);
});

test('rendering for other mirrors replaces those of an earlier rendering, and keeps what others wrote', async () => {
  const merge = join(scratch, 'earlier.ign');
  const earlier = parseConfig((await render(clients({}, ['192.0.2.77:305', '192.0.2.10:305']))).text, 'earlier');
  const theirs = { path: '/etc/containers/certs.d/192.0.2.77:305/ca.crt', mode: 0o644, contents: { source: 'data:,theirs' } };
  await writeFile(merge, JSON.stringify({ ...earlier, storage: { files: [theirs, ...(earlier.storage?.files ?? [])] } }));
  const { text: rendered, warnings } = await render(clients({ merge }));
  const again = join(scratch, 'again.ign');
  await writeFile(again, rendered);
  assert.deepEqual(
    filesOf(parseConfig(rendered, 'rendered')).map(([path]) => path),
    [
      theirs.path,
      DROP_IN,
      '/etc/containers/certs.d/192.0.2.10:305/prestage-ca.crt',
      '/etc/containers/certs.d/node1.example.com:5000/prestage-ca.crt',
    ],
  );
  assert.deepEqual(warnings, [
    '/etc/containers/certs.d/192.0.2.77:305/prestage-ca.crt was a leftover of prestage-agent in the override and was removed',
  ]);
  assert.deepEqual(await render(clients({ merge: again })), { text: rendered, warnings: [] });
});

test('a node becomes a client or a server by merging, not both: pieces of the other kind go', async () => {
  const merge = join(scratch, 'server.ign');
  await writeFile(merge, (await render(server())).text);
  const { text: rendered, warnings } = await render(clients({ merge }));
  const config = parseConfig(rendered, 'rendered');
  assert.deepEqual([config.systemd?.units, filesOf(config).length, warnings.length], [[], 3, 6]);
});

test('nodes that pull from others need no data partition kept', async () => {
  for (const as of ['siteconfig', 'clusterinstance', 'bmh'] as const) {
    const { text: rendered } = await render(clients({ as }));
    assert.doesNotMatch(rendered, /save-partlabel|installer-?args/i);
  }
  assert.match((await render(clients({ as: 'infraenv', stage: 'discovery', clients: await discoveryClients() }))).text, /kind: InfraEnv/);
  assert.doesNotMatch((await render(clients({ as: 'curl' }))).text, /installer-args/);
  assert.deepEqual(await refused(clients({ as: 'installer-args' })), {
    code: 'ERR_USAGE',
    message: 'the form installer-args keeps a data partition, but a node that pulls from others has none',
    remedy: 'Use it with the stages discovery and installed',
  });
});

test('a discovery override for clients is measured as the ISO carries it', async () => {
  const merge = join(scratch, 'large.ign');
  const source = `data:;base64,${randomBytes(300_000).toString('base64')}`;
  await writeFile(merge, JSON.stringify({ ignition: { version: '3.1.0' }, storage: { files: [{ path: '/a', contents: { source } }] } }));
  const error = await refused(clients({ stage: 'discovery', clients: await discoveryClients(), merge }));
  assert.equal(error.code, 'ERR_IGNITION_SIZE');
});

test('words and flags that do not go together are refused, all at once', () => {
  const message = (word: string, options: Readonly<Record<string, unknown>>) =>
    thrownBy(() => ignitionOptions(word, options)).message.replace('ignition cannot start: ', '');
  const serve = { serve: 'cluster', address: 'a', certificate: 'c', key: 'k' };
  assert.deepEqual(
    [
      message('workers', {}),
      message('clients', { label: 'data', serve: 'cluster', address: 'a' }),
      message('installed', { mirror: ['a:1'], stage: 'installed', registries: 'r', address: 'a', ca: 'c' }),
      message('installed', { serve: 'cluster' }),
      message('discovery', serve),
      message('installed', {
        delivery: 'fast',
        trust: 'x',
        placement: 'moon',
        registryImage: 'A',
        serve: 'all',
        port: '0',
        as: 'x',
        spec: '3.4.0',
        policy: 'x',
      }),
      message('installed', { agentSha256: '' }),
    ],
    [
      'the stage: must be one of discovery, installed, clients',
      '--label is only for nodes with a data partition; --serve is only for nodes with a data partition; --address is only for nodes with a data partition; --mirror is not given; --ca is not given; --bundle is not given',
      '--mirror is only for clients; --stage is only for clients; --registries is only for clients; --address requires --serve cluster; --ca requires --serve cluster',
      '--address is not given; --certificate is not given; --key is not given',
      '--serve cluster is only for the stage installed: discovery ends with the installation',
      '--spec: must be one of 3.1.0, 3.2.0; --policy: must be one of open, closed; --delivery: must be one of auto, extract, registry, mount; --trust: must be one of auto, verity, hash, background; --placement: must be one of auto, ram, partition, disk; --registry-image: must be an image reference: registry/repository with a tag or a digest; --serve: must be one of node, cluster; --port: must be a whole number from 1 to 65535; --as: must be one of ign, patch, curl, infraenv, siteconfig, clusterinstance, bmh, installer-args',
      '--agent-sha256: is empty',
    ],
  );
});

test('what goes together is understood', () => {
  assert.deepEqual(
    [
      ignitionOptions('installed', {
        serve: 'cluster',
        address: 'a',
        certificate: 'c',
        key: 'k',
        ca: 'ca',
        port: '5000',
        delivery: 'registry',
        trust: 'hash',
        placement: 'disk',
        registryImage: 'quay.io/example/registry',
        policy: 'closed',
        label: 'l',
        bundle: 'b',
        agentSha256: 'x',
        bundleSha256: 'y',
        spec: '3.2.0',
        as: 'bmh',
        merge: 'm',
      }),
      ignitionOptions('discovery', { serve: 'node' }),
      ignitionOptions('clients', { mirror: ['a:1', 'b:2'], ca: 'ca', bundle: 'b', stage: 'discovery', registries: 'r', as: 'ign' }),
      ignitionOptions('clients', { mirror: ['a:1'], ca: 'ca', bundle: 'b', spec: '3.1.0', merge: 'm' }),
    ],
    [
      {
        stage: 'installed',
        spec: '3.2.0',
        label: 'l',
        agentSha256: 'x',
        bundleSha256: 'y',
        bundle: 'b',
        policy: 'closed',
        delivery: 'registry',
        trust: 'hash',
        placement: 'disk',
        registryImage: 'quay.io/example/registry:latest',
        serve: { address: 'a', certificate: 'c', key: 'k', ca: 'ca', port: 5000 },
        merge: 'm',
        as: 'bmh',
      },
      { stage: 'discovery' },
      { stage: 'discovery', clients: { mirrors: ['a:1', 'b:2'], ca: 'ca', bundle: 'b', registries: 'r' }, as: 'ign' },
      { stage: 'installed', clients: { mirrors: ['a:1'], ca: 'ca', bundle: 'b' }, spec: '3.1.0', merge: 'm' },
    ],
  );
});

async function discoveryClients() {
  const directory = join(scratch, 'discovery');
  await writeBundle(directory, 'discovery', [`${RELEASE}:4.14.0-x86_64`]);
  return { mirrors: MIRRORS, ca: join(tls, 'ca.crt'), bundle: directory };
}
