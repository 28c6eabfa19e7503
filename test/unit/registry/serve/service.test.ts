import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { plainAct } from '../../../../agent/host/acts.ts';
import { checkServing, formatAddress, isLoopback, listenHost, probeHost } from '../../../../agent/registry/serve/service-address.ts';
import { registryConfig } from '../../../../agent/registry/serve/service-config.ts';
import { explainFailure } from '../../../../agent/registry/serve/service-failure.ts';
import { type PlanFacts, planRegistry, type RegistryRequest } from '../../../../agent/registry/serve/service-plan.ts';
import { withoutEvents } from '../../../../agent/registry/serve/service-run.ts';
import { renderQuadlet, renderRegistryUnit, unitWord } from '../../../../agent/registry/serve/service-unit.ts';
import { assertGolden } from '../../../support/golden.ts';
import { codeOf, thrownBy } from '../../../support/thrown.ts';

const REQUEST: RegistryRequest = {
  tree: '/run/prestage-agent/mirror',
  image: 'quay.io/example/registry:v1',
  imageStore: '/var/lib/prestage-agent/store',
  address: '127.0.0.1',
  port: 5000,
  act: plainAct,
  signal: new AbortController().signal,
};
const FACTS: PlanFacts = {
  directory: '/run/prestage-agent/registry',
  treeIdentity: '1:1',
  storeIdentity: '1:2',
  hasCrun: true,
  certificate: '',
  key: '',
};
const CLUSTER: Partial<RegistryRequest> = { address: '192.0.2.7', port: 443, tls: { certificate: '/c', key: '/k' } };

describe('the plan of a registry', () => {
  it('runs an image of the store in a storage of its own, without rights, and mounts all that it reads read-only', () => {
    const { global, options, env, command, address } = planRegistry(REQUEST, FACTS);
    const own = '/run/prestage-agent/registry';
    assert.deepEqual(
      { global: global.join(' '), options: options.join(' '), env, command, address },
      {
        global: `--runtime crun --root ${own}/storage --runroot ${own}/run --tmpdir ${own}/tmp --storage-driver overlay --storage-opt additionalimagestore=/var/lib/prestage-agent/store`,
        options: `--name prestage-registry --network=host --pull=never --read-only --user=0 --cap-drop=all --cap-add=DAC_OVERRIDE --security-opt=label=disable --security-opt=no-new-privileges --http-proxy=false --env=OTEL_TRACES_EXPORTER=none --cgroups=disabled --pidfile=${own}/pid --mount type=bind,source=/run/prestage-agent/mirror,destination=/var/lib/registry,ro --mount type=bind,source=${own}/config.yaml,destination=/etc/registry/config.yaml,ro --entrypoint /usr/bin/distribution`,
        env: {},
        command: ['/usr/bin/distribution', 'serve', '/etc/registry/config.yaml'],
        address: '127.0.0.1:5000',
      },
    );
  });

  it("uses the node's storage where no store is given, and no control group options that runc lacks", () => {
    const { imageStore: _, ...request } = REQUEST;
    const { global, options, env } = planRegistry({ ...request, storageConf: '/run/s.conf' }, { ...FACTS, hasCrun: false });
    assert.deepEqual([global, env], [[], { CONTAINERS_STORAGE_CONF: '/run/s.conf' }]);
    assert.ok(options.includes('--cgroups=no-conmon'));
  });

  it('takes certificates in, and may bind a low port, where it serves others', () => {
    const { options, address, config } = planRegistry({ ...REQUEST, ...CLUSTER }, { ...FACTS, key: 'k' });
    const key = '/etc/registry/tls/8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a.key';
    assert.equal(address, '192.0.2.7:443');
    assert.ok(!config.includes('.key'), 'a configuration whose path is known says where the key is');
    assert.deepEqual(
      [
        '--cap-add=NET_BIND_SERVICE',
        `type=bind,source=/run/prestage-agent/registry/tls.key,destination=${key},ro`,
        `--env=REGISTRY_HTTP_TLS_KEY=${key}`,
      ].filter((option) => !options.includes(option)),
      [],
    );
  });

  it('sees the blobs that its tree leads to by the path that they have on the node, read-only', () => {
    const { options } = planRegistry({ ...REQUEST, blobs: '/run/data/a,b' }, FACTS);
    assert.ok(options.includes('type=bind,"source=/run/data/a,b","destination=/run/data/a,b",ro'), options.join('\n'));
  });

  it('writes paths with commas and quotes as a record of CSV', () => {
    const { options } = planRegistry({ ...REQUEST, tree: '/a,"b"' }, FACTS);
    assert.ok(options.includes('type=bind,"source=/a,""b""",destination=/var/lib/registry,ro'), options.join('\n'));
  });

  it('is another one where anything differs that the registry would serve or be', () => {
    const changes: readonly (readonly [Partial<RegistryRequest>, Partial<PlanFacts>])[] = [
      [{}, {}],
      [{ tree: '/other' }, {}],
      [{ blobs: '/blobs' }, {}],
      [{ image: 'quay.io/example/other:v1' }, {}],
      [{ command: ['/registry'] }, {}],
      [{ address: '127.0.0.2' }, {}],
      [{ port: 5001 }, {}],
      [{ storageConf: '/c' }, {}],
      [CLUSTER, {}],
      [{}, { treeIdentity: '2:1' }],
      [{}, { storeIdentity: '2:2' }],
      [{}, { certificate: 'c' }],
      [{}, { key: 'k' }],
    ];
    const identities = changes.map(([request, facts]) => planRegistry({ ...REQUEST, ...request }, { ...FACTS, ...facts }).identity);
    assert.equal(new Set(identities).size, changes.length);
    assert.equal(planRegistry({ ...REQUEST }, { ...FACTS }).identity, identities[0]);
  });
});

describe('the units of a registry', () => {
  const plan = planRegistry({ ...REQUEST, storageConf: '/run/prestage-agent/storage.conf' }, FACTS);
  it('are a systemd unit', () => assertGolden('registry/prestage-registry.service', renderRegistryUnit(plan)));
  it('are a quadlet', () => assertGolden('registry/prestage-registry.container', renderQuadlet(plan)));

  it('double what systemd would expand, and quote what it would split', () => {
    const words = ['plain', 'a b', '100%', '$HOME', 'say "x"', 'back\\slash', '', 'a\nExecStart=b'];
    assert.deepEqual(words.map(unitWord), [
      'plain',
      '"a b"',
      '100%%',
      '$$HOME',
      '"say \\"x\\""',
      '"back\\\\slash"',
      '""',
      '"a\\x0aExecStart=b"',
    ]);
  });
});

it('the configuration serves read-only, and by TLS where there are certificates', () => {
  const plain: unknown = JSON.parse(registryConfig({ listen: '127.0.0.1:5000', hasTls: false }));
  assert.deepEqual(plain, {
    version: 0.1,
    log: { level: 'info', formatter: 'text', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: '/var/lib/registry' },
      maintenance: { uploadpurging: { enabled: false }, readonly: { enabled: true } },
      delete: { enabled: false },
    },
    http: { addr: '127.0.0.1:5000', secret: 'nothing is uploaded' },
  });
  assert.match(registryConfig({ listen: ':443', hasTls: true }), /"certificate": "\/etc\/registry\/tls\/registry\.crt"/);
});

describe('the address of a registry', () => {
  it('is on loopback or not, by what it is', () => {
    const addresses = [
      '127.0.0.1',
      '127.9.9.9',
      '::1',
      'localhost',
      '192.0.2.1',
      '::',
      '2001:db8::1',
      'node0.example.com',
      '127.0.0.1.example.com',
    ];
    assert.deepEqual(addresses.filter(isLoopback), ['127.0.0.1', '127.9.9.9', '::1', 'localhost']);
  });

  it('is written as clients write it, and listened on by its number; a name says nothing about the interface', () => {
    assert.deepEqual([formatAddress('::1', 5000), formatAddress('192.0.2.1', 80)], ['[::1]:5000', '192.0.2.1:80']);
    assert.deepEqual(
      ['192.0.2.1', 'localhost', 'node0.example.com'].map((address) => [listenHost(address), probeHost(address)]),
      [
        ['192.0.2.1', '192.0.2.1'],
        ['127.0.0.1', '127.0.0.1'],
        [undefined, '127.0.0.1'],
      ],
    );
  });

  it('is refused without certificates where others reach it', () => {
    assert.deepEqual(
      thrownBy(() => checkServing('192.0.2.1', false)),
      {
        code: 'ERR_USAGE',
        message: 'the registry must serve other nodes on 192.0.2.1, but has no certificate',
        remedy: 'Make one with: prestage-agent certificates; then give --certificate and --key, or set tls-certificate and tls-key',
      },
    );
    assert.deepEqual(
      [codeOf(() => checkServing('192.0.2.1', true)), codeOf(() => checkServing('127.0.0.1', false))],
      [undefined, undefined],
    );
  });
});

describe('a registry that does not start', () => {
  const explain = (messages: string) => {
    const { code, message } = explainFailure({
      image: 'quay.io/r:v1',
      command: ['/usr/bin/distribution', 'serve'],
      address: '127.0.0.1:5000',
      messages,
    });
    return [code, message];
  };
  const missing =
    'Error: crun: executable file `/usr/bin/distribution` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found';
  const cases = [
    [
      'Error: quay.io/r:v1: image not known',
      'ERR_REGISTRY_IMAGE',
      'the registry image quay.io/r:v1 is not in storage: Error: quay.io/r:v1: image not known',
    ],
    [missing, 'ERR_REGISTRY_IMAGE', `the registry image quay.io/r:v1 does not contain the program /usr/bin/distribution: ${missing}`],
    [
      'exec: Exec format error',
      'ERR_REGISTRY_IMAGE',
      '/usr/bin/distribution of quay.io/r:v1 is for another processor: exec: Exec format error',
    ],
    [
      'listen tcp 127.0.0.1:5000: bind: address already in use',
      'ERR_REGISTRY_TAKEN',
      '127.0.0.1:5000 is taken by another program: listen tcp 127.0.0.1:5000: bind: address already in use',
    ],
    [
      'listen tcp 192.0.2.7:5000: bind: cannot assign requested address',
      'ERR_REGISTRY_PORT',
      'the registry cannot listen on 127.0.0.1:5000: listen tcp 192.0.2.7:5000: bind: cannot assign requested address',
    ],
    [
      'configuration error: open /etc/x',
      'ERR_REGISTRY_START',
      'the registry of quay.io/r:v1 refuses its configuration: configuration error: open /etc/x',
    ],
    [
      'fatal error: fault\n[signal SIGBUS: bus error code=0x2]\n\ngoroutine 1 [running, locked to thread]:\nruntime.throw({0xeac3bc?, 0x7?})\n',
      'ERR_REGISTRY_START',
      'the registry of quay.io/r:v1 does not answer on 127.0.0.1:5000: fatal error: fault | [signal SIGBUS: bus error code=0x2]',
    ],
    [
      '2026-11-21T11:48:10Z stderr F panic: no\n2026-11-21T11:48:10Z stderr F goroutine 1 gp=0xc000 m=0 [running]:\n2026-11-21T11:48:10Z stderr F main()\n',
      'ERR_REGISTRY_START',
      'the registry of quay.io/r:v1 does not answer on 127.0.0.1:5000: 2026-11-21T11:48:10Z stderr F panic: no',
    ],
    ['', 'ERR_REGISTRY_START', 'the registry of quay.io/r:v1 does not answer on 127.0.0.1:5000: no message'],
  ] as const;
  for (const [messages, code, message] of cases) {
    it(`is told by what was said: ${code}, ${messages.slice(0, 40) || 'nothing'}`, () =>
      assert.deepEqual(explain(messages), [code, message]));
  }

  it('is quoted without the events of podman and systemd', () => {
    const journal = [
      'Starting prestage-registry.service - Registry…',
      '2026-11-21 11:48:10.253 +0000 UTC m=+0.044 image pull 9dd5 quay.io/r:v1',
      'conmon fbd54eb5405dccb908d3 <nwarn>: Failed to open cgroups file',
      'Error: image not known',
      'prestage-registry.service: Killing process 366 (conmon) with signal SIGKILL.',
    ];
    assert.equal(withoutEvents(journal.join('\n')), 'Error: image not known');
  });
});
