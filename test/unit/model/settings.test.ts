import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { SETTING_KEYS, type SettingKey } from '../../../agent/model/setting-table.ts';
import { resolveSettings, type Settings, type SettingsInput, variableOf } from '../../../agent/model/settings.ts';
import { codeOf, thrownBy } from '../../support/thrown.ts';

const PATH = '/etc/prestage-agent/config.yaml';
const REMEDY = 'Correct or remove the settings named above; prestage-agent run --help lists all settings';
const DEFAULTS: Settings = {
  label: 'data',
  delivery: 'auto',
  retries: 3,
  policy: 'open',
  trust: 'auto',
  placement: 'auto',
  serve: 'node',
  registryPort: 305,
  registryCommand: ['/usr/bin/distribution', 'serve', '/etc/registry/config.yaml'],
  tlsCertificate: '/etc/prestage-agent/tls/registry.crt',
  tlsKey: '/etc/prestage-agent/tls/registry.key',
  rewrite: false,
  blockSource: false,
  root: '/',
  deviceWaitSeconds: 60,
  lockWaitSeconds: 0,
};

function file(text: string): SettingsInput {
  return { file: { path: PATH, text } };
}

/** The message with which the input is refused. */
function refusalOf(input: SettingsInput): string {
  const { code, message, remedy } = thrownBy(() => resolveSettings(input));
  assert.deepEqual({ code, remedy }, { code: 'ERR_SETTINGS', remedy: REMEDY });
  return message;
}

test('without file, environment and flags the defaults hold', () => {
  assert.deepEqual(resolveSettings({}), DEFAULTS);
});

test('a file that is empty, or has comments only, changes nothing', () => {
  for (const text of ['', '# nothing\n', '---\n', '\uFEFF', '{}', 'null']) assert.deepEqual(resolveSettings(file(text)), DEFAULTS);
});

test('every setting can stand in the file', () => {
  const text = [
    'stage: installed',
    'label: prestage data',
    'delivery: extract',
    'trust: verity',
    'placement: disk',
    'memory-reserve: 512',
    'serve: cluster',
    'serve-address: 192.0.2.10',
    'registry-port: 5443',
    `registry-image: quay.io/example/registry@sha256:${'ab'.repeat(32)}`,
    'registry-command: /bin/registry serve /etc/registry/config.yaml',
    'tls-certificate: /etc/tls/node0.crt',
    'tls-key: /etc/tls/node0.key',
    'rewrite: true',
    'block-source: yes',
    'parallel: 4',
    'retries: 0',
    'policy: closed',
    'graphroot: /var/lib/containers/storage',
    'runroot: /run/containers/storage',
    'scratch: /var/tmp',
    'root: /sysroot',
    'bundle: /var/mnt/bundle',
    `bundle-sha256: ${'Ab'.repeat(32)}`,
    'device-wait: 3600',
    'lock-wait: 86400',
  ].join('\n');
  const settings: Settings = {
    stage: 'installed',
    label: 'prestage data',
    delivery: 'extract',
    trust: 'verity',
    placement: 'disk',
    memoryReserveBytes: 512 * 1024 * 1024,
    serve: 'cluster',
    serveAddress: '192.0.2.10',
    registryPort: 5443,
    registryImage: `quay.io/example/registry@sha256:${'ab'.repeat(32)}`,
    registryCommand: ['/bin/registry', 'serve', '/etc/registry/config.yaml'],
    tlsCertificate: '/etc/tls/node0.crt',
    tlsKey: '/etc/tls/node0.key',
    rewrite: true,
    blockSource: true,
    parallel: 4,
    retries: 0,
    policy: 'closed',
    graphroot: '/var/lib/containers/storage',
    runroot: '/run/containers/storage',
    scratch: '/var/tmp',
    root: '/sysroot',
    bundle: '/var/mnt/bundle',
    bundleSha256: 'ab'.repeat(32),
    deviceWaitSeconds: 3600,
    lockWaitSeconds: 86_400,
  };
  assert.deepEqual(resolveSettings(file(text)), settings);
});

test('the environment overrides the file, flags override the environment', () => {
  const input: SettingsInput = {
    ...file('label: from-file\nretries: 1\npolicy: closed\nparallel: 8\n'),
    env: { PRESTAGE_LABEL: 'from-env', PRESTAGE_RETRIES: '2', PRESTAGE_DEVICE_WAIT: '5', HOME: '/root', PRESTAGE_UNRELATED: 'x' },
    flags: { label: 'from-flag', parallel: 'auto', stage: undefined },
  };
  assert.deepEqual(resolveSettings(input), { ...DEFAULTS, label: 'from-flag', retries: 2, policy: 'closed', deviceWaitSeconds: 5 });
});

test('an address is one by which others can reach a node', () => {
  const must = 'must be an IP address or host name that other nodes use to reach this node';
  for (const address of ['192.0.2.1', '2001:db8::1', 'node0.example.com', 'node0'])
    assert.equal(resolveSettings({ flags: { 'serve-address': address } }).serveAddress, address);
  for (const address of ['0.0.0.0', '::', '300.1.1.1', 'a b', '-x', '[::1]', 'x'.repeat(254)])
    assert.ok(refusalOf({ flags: { 'serve-address': address } }).includes(must), address);
  assert.ok(refusalOf(file('serve-address: 5')).includes(must));
});

test('the image and the command of the registry go to podman as they are, so they are checked', () => {
  for (const image of ['quay.io/UPPER', '-v']) assert.match(refusalOf({ flags: { 'registry-image': image } }), /image reference/);
  assert.match(refusalOf(file('registry-image: 5')), /image reference/);
  for (const command of ['serve', '/bin/x  y', '/bin/x ', '/bin/x\ny'])
    assert.match(refusalOf({ flags: { 'registry-command': command } }), /absolute path of a program/);
});

test('yes and no are said in words or as YAML has them', () => {
  assert.deepEqual(resolveSettings(file('rewrite: yes\nblock-source: false')), { ...DEFAULTS, rewrite: true });
  assert.match(refusalOf({ flags: { rewrite: 'maybe' } }), /--rewrite: must be yes or no, got "maybe"/);
});

test('an empty variable is one that is not set, an empty flag is a fault', () => {
  assert.deepEqual(resolveSettings({ env: { PRESTAGE_LABEL: '' } }), DEFAULTS);
  assert.match(refusalOf({ flags: { label: '' } }), /^--label: must be a GPT partition name/);
});

test('an unknown name is refused with its line and with the name that was meant', () => {
  assert.equal(refusalOf(file('# first\nlable: data\n')), `${PATH}:2: "lable" is not a setting, did you mean label?`);
  assert.equal(refusalOf(file('deviceWait: 3\n')), `${PATH}:1: "deviceWait" is not a setting, did you mean device-wait?`);
  assert.equal(refusalOf(file('mirrors: 3\n')), `${PATH}:1: "mirrors" is not a setting`);
  assert.equal(refusalOf(file('? [a]\n: 3\n')), `${PATH}:1: "(a nested key)" is not a setting`);
  assert.equal(refusalOf(file('toString: 3\n')), `${PATH}:1: "toString" is not a setting`);
});

test('a name that is set twice is refused with both lines', () => {
  assert.equal(refusalOf(file('retries: 1\nlabel: a\n\nretries: 2\n')), `${PATH}:4: retries is already set at ${PATH}:1`);
});

test('a file that is no mapping is refused', () => {
  assert.equal(refusalOf(file('- label\n')), `${PATH} must be a mapping of settings, one "name: value" per line`);
  assert.equal(refusalOf(file('label')), `${PATH} must be a mapping of settings, one "name: value" per line`);
});

test('what is no YAML is refused with its line', () => {
  assert.match(refusalOf(file('label: data\npolicy: "open\n')), /config\.yaml:\d: Missing closing "quote/);
  assert.match(refusalOf(file('label: data\n---\nlabel: b\n')), /config\.yaml:\d: Source contains multiple documents/);
  assert.match(refusalOf(file('label: !secret data\n')), /config\.yaml:1: Unresolved tag: !secret/);
});

test('a value that a setting cannot have is refused with what it must be', () => {
  const label = 'a GPT partition name: 1 to 36 characters without / and control characters';
  const table: readonly (readonly [string, string])[] = [
    ['stage: install', 'must be one of discovery, installed, got "install"'],
    ['stage:', 'must be one of discovery, installed, got nothing'],
    ['delivery: copy', 'must be one of auto, extract, registry, mount, got "copy"'],
    ['policy: true', 'must be one of open, closed, got true'],
    ['policy: [open]', 'must be one of open, closed, got a list or a mapping'],
    ['{ policy }', 'must be one of open, closed, got nothing'],
    ['parallel: 0', 'must be auto or a whole number from 1 to 64, got 0'],
    ['parallel: 65', 'must be auto or a whole number from 1 to 64, got 65'],
    ['parallel: none', 'must be auto or a whole number from 1 to 64, got "none"'],
    ['retries: 21', 'must be a whole number from 0 to 20, got 21'],
    ['retries: -1', 'must be a whole number from 0 to 20, got -1'],
    ['retries: 1.5', 'must be a whole number from 0 to 20, got 1.5'],
    ['retries: .inf', 'must be a whole number from 0 to 20, got Infinity'],
    ['retries: " 3"', 'must be a whole number from 0 to 20, got " 3"'],
    ['retries: {}', 'must be a whole number from 0 to 20, got a list or a mapping'],
    ['label: 2024', `must be ${label}, got 2024`],
    ['label: ""', `must be ${label}, got ""`],
    ['label: a/b', `must be ${label}, got "a/b"`],
    ['label: ".."', `must be ${label}, got ".."`],
    ['label: "a\\tb"', `must be ${label}, got "a\\tb"`],
    ['label: "\\ud800"', `must be ${label}, got "\\ud800"`],
    [`label: ${'x'.repeat(37)}`, `must be ${label}, got "${'x'.repeat(37)}"`],
    ['graphroot: storage', 'must be an absolute path without + : ], got "storage"'],
    ['graphroot: /a+b', 'must be an absolute path without + : ], got "/a+b"'],
    ['runroot: /a:b', 'must be an absolute path without + : ], got "/a:b"'],
    ['scratch: tmp', 'must be an absolute path, got "tmp"'],
    ['scratch: "/a\\0b"', 'must be an absolute path, got "/a\\u0000b"'],
    ['root: sysroot', 'must be an absolute path, got "sysroot"'],
    ['bundle-sha256: abc', 'must be 64 hex digits, got "abc"'],
    ['bundle-sha256: 7', 'must be 64 hex digits, got 7'],
    ['bundle: 5', 'must be an absolute path, got 5'],
    ['memory-reserve: lots', 'must be auto or a whole number from 0 to 1048576 (MiB), got "lots"'],
    ['memory-reserve: -1', 'must be auto or a whole number from 0 to 1048576 (MiB), got -1'],
    ['device-wait: 3601', 'must be a whole number from 0 to 3600 (seconds), got 3601'],
    ['lock-wait: 86401', 'must be a whole number from 0 to 86400 (seconds), got 86401'],
  ];
  assert.deepEqual(
    table.map(([text]) => refusalOf(file(text))),
    table.map(([text, why]) => `${PATH}:1: ${/[a-z0-9-]+/.exec(text)?.[0]} ${why}`),
  );
});

test('an alias is no value', () => {
  assert.match(
    refusalOf(file('label: &x data\nscratch: *x\n')),
    /config\.yaml:2: scratch must be an absolute path, got a list or a mapping/,
  );
});

test('a whole number can be quoted, and written as YAML writes numbers', () => {
  assert.equal(resolveSettings(file('retries: "7"\n')).retries, 7);
  assert.equal(resolveSettings(file('retries: 0x10\n')).retries, 16);
});

test('a label can have 36 characters and spaces', () => {
  const label = 'x y'.repeat(12);
  assert.equal(resolveSettings({ flags: { label } }).label, label);
});

test('root and bundle can be relative on the command line only', () => {
  const settings = resolveSettings({ flags: { root: 'tree', bundle: './bundle' } });
  assert.deepEqual({ root: settings.root, bundle: settings.bundle }, { root: 'tree', bundle: './bundle' });
  assert.equal(refusalOf({ env: { PRESTAGE_ROOT: 'tree' } }), 'PRESTAGE_ROOT: must be an absolute path, got "tree"');
  assert.equal(refusalOf({ flags: { bundle: '' } }), '--bundle: must be a path, got ""');
});

test('every fault is told at once, from all sources, also of values that are overridden', () => {
  const input: SettingsInput = {
    ...file('retries: many\nlabl: x\n'),
    env: { PRESTAGE_STAGE: 'boot' },
    flags: { retries: '3', 'lock-wait': 'x' },
  };
  assert.equal(
    refusalOf(input),
    [
      'The settings cannot be used: 4 faults',
      `${PATH}:2: "labl" is not a setting, did you mean label?`,
      `${PATH}:1: retries must be a whole number from 0 to 20, got "many"`,
      'PRESTAGE_STAGE: must be one of discovery, installed, got "boot"',
      '--lock-wait: must be a whole number from 0 to 86400 (seconds), got "x"',
    ].join('\n'),
  );
});

const VALID: Readonly<Record<SettingKey, fc.Arbitrary<string>>> = {
  stage: fc.constantFrom('discovery', 'installed'),
  label: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 36 }).filter((text) => !/[/]|^\.\.?$/.test(text)),
  delivery: fc.constantFrom('auto', 'extract', 'registry', 'mount'),
  trust: fc.constantFrom('auto', 'verity', 'hash', 'background'),
  placement: fc.constantFrom('auto', 'ram', 'partition', 'disk'),
  serve: fc.constantFrom('node', 'cluster'),
  'serve-address': fc.oneof(
    fc.ipV4().filter((text) => text !== '0.0.0.0'),
    fc.ipV6().filter((text) => text !== '::'),
    fc.domain(),
  ),
  'registry-port': fc.integer({ min: 1, max: 65_535 }).map(String),
  'registry-image': fc.stringMatching(/^quay\.io\/[a-z]{1,9}:[a-z]{1,9}$/),
  'registry-command': fc.stringMatching(/^\/[a-z]{1,9}( [a-z]{1,9}){0,2}$/),
  'tls-certificate': fc.stringMatching(/^\/[a-z/]{0,20}$/),
  'tls-key': fc.stringMatching(/^\/[a-z/]{0,20}$/),
  'memory-reserve': fc.oneof(fc.constant('auto'), fc.integer({ min: 0, max: 1_048_576 }).map(String)),
  rewrite: fc.constantFrom('yes', 'no'),
  'block-source': fc.constantFrom('yes', 'no'),
  parallel: fc.oneof(fc.constant('auto'), fc.integer({ min: 1, max: 64 }).map(String)),
  retries: fc.integer({ min: 0, max: 20 }).map(String),
  policy: fc.constantFrom('open', 'closed'),
  graphroot: fc.stringMatching(/^\/[a-z/]{0,20}$/),
  runroot: fc.stringMatching(/^\/[a-z/]{0,20}$/),
  scratch: fc.stringMatching(/^\/[a-z+:]{0,20}$/),
  root: fc.stringMatching(/^\/[a-z/]{0,20}$/),
  bundle: fc.stringMatching(/^\/[a-z/]{0,20}$/),
  'bundle-sha256': fc.stringMatching(/^[0-9a-f]{64}$/),
  'device-wait': fc.integer({ min: 0, max: 3600 }).map(String),
  'lock-wait': fc.integer({ min: 0, max: 86_400 }).map(String),
};

test('for every setting the last source that gives it wins, whatever the others give', () => {
  const given = fc.record(VALID, { requiredKeys: [] });
  fc.assert(
    fc.property(given, given, given, (inFile, inEnv, asFlags) => {
      const text = Object.entries(inFile)
        .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
        .join('');
      const env = Object.fromEntries(SETTING_KEYS.map((key) => [variableOf(key), inEnv[key]]));
      const input: SettingsInput = { ...file(text), env, flags: asFlags };
      assert.deepEqual(resolveSettings(input), resolveSettings({ flags: { ...inFile, ...inEnv, ...asFlags } }));
    }),
  );
});

test('any text is settings or refused with ERR_SETTINGS', () => {
  const line = fc.tuple(
    fc.oneof(fc.constantFrom(...SETTING_KEYS), fc.string()),
    fc.oneof(
      fc.string(),
      fc.jsonValue().map((json) => JSON.stringify(json)),
    ),
  );
  const texts = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(line).map((all) => all.map(([key, value]) => `${key}: ${value}`).join('\n')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const code = codeOf(() => resolveSettings(file(text)));
      assert.ok(code === undefined || code === 'ERR_SETTINGS', code);
    }),
  );
});

const EXAMPLE = readFileSync(join(import.meta.dirname, '../../../docs/config.example.yaml'), 'utf8');

test('the example of the settings file holds the defaults', () => {
  assert.deepEqual(resolveSettings(file(EXAMPLE)), DEFAULTS);
});

test('the example shows every setting, and what it shows can be used', () => {
  const shown = EXAMPLE.replaceAll(/^# ([a-z0-9-]+: \S+)$/gm, '$1');
  assert.deepEqual(resolveSettings(file(shown)), {
    ...DEFAULTS,
    stage: 'discovery',
    graphroot: '/var/lib/containers/storage',
    runroot: '/run/containers/storage',
    serveAddress: '192.0.2.10',
    registryImage: 'quay.io/example/registry:latest',
    scratch: '/var/lib/prestage-agent/scratch',
    bundle: '/var/mnt/bundle',
    bundleSha256: '0123456789abcdef'.repeat(4),
  });
  for (const key of SETTING_KEYS) assert.match(shown, new RegExp(`^${key}: `, 'm'));
});
