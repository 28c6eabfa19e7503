import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { IgnitionConfig } from '../../../agent/units/config.ts';
import { foreignNames, mergeConfig } from '../../../agent/units/merge.ts';
import { isOurs, piecesOf } from '../../../agent/units/owners.ts';
import { configOf, ourIgnition, shippedTexts } from '../../support/ignition.ts';
import { thrownBy } from '../../support/thrown.ts';

const ours = ourIgnition('discovery');

/** Names of which some are ours from an earlier rendering, some are others', none stands in the way of ours. */
const paths = fc.oneof(
  fc.constantFrom(
    '/usr/local/bin/prestage-old',
    '/etc/prestage-agent/launcher.env',
    '/etc/prestage-agent',
    '/etc/prestage-agent/config.yaml',
  ),
  fc.stringMatching(/^\/etc\/[a-z]{1,3}(\/[a-z]{1,3})?$/),
);
const unitNames = fc.oneof(
  fc.constantFrom('prestage-agent.service', 'prestage-agent-installed.service', 'prestage-agent-discovery.service'),
  fc.stringMatching(/^[a-z]{1,4}\.service$/),
);
const extra = fc.option(fc.record({ note: fc.string() }), { nil: {} });
const nodes = fc.array(fc.tuple(paths, extra), { maxLength: 4 }).map((list) => list.map(([path, more]) => ({ path, ...more })));
const overrides = fc
  .record(
    {
      ignition: fc.record({ version: fc.constantFrom('3.1.0', '3.2.0') }),
      storage: fc.record(
        { files: nodes, directories: nodes, links: nodes.map((list) => list.map((node) => ({ ...node, target: '/x' }))) },
        { requiredKeys: [] },
      ),
      systemd: fc.record(
        { units: fc.array(fc.tuple(unitNames, extra), { maxLength: 4 }).map((list) => list.map(([name, more]) => ({ name, ...more }))) },
        { requiredKeys: [] },
      ),
      passwd: fc.record({ users: fc.array(fc.record({ name: fc.string() }), { maxLength: 2 }) }),
    },
    { requiredKeys: ['ignition'] },
  )
  .map(configOf);

/** What is not ours, in order, and the keys that the merge does not touch. */
function othersOf(config: IgnitionConfig) {
  const { storage = {}, systemd = {}, ...rest } = config;
  const foreign = (list: readonly { readonly path: string }[] | undefined) => (list ?? []).filter(({ path }) => !isOurs(path));
  return {
    rest,
    files: foreign(storage.files),
    directories: foreign(storage.directories),
    links: foreign(storage.links),
    units: (systemd.units ?? []).filter(({ name }) => !isOurs(name)),
  };
}

test('merging twice is merging once', () => {
  fc.assert(
    fc.property(overrides, (existing) => {
      const once = mergeConfig(existing, ours).config;
      assert.deepEqual(mergeConfig(once, ours), { config: once, removed: [] });
    }),
  );
});

test('merging leaves what others wrote as it is and in its order', () => {
  fc.assert(
    fc.property(overrides, (existing) => {
      assert.deepEqual(othersOf(mergeConfig(existing, ours).config), othersOf(existing));
    }),
  );
});

test('merging leaves exactly our new pieces among ours, whatever was there before', () => {
  fc.assert(
    fc.property(overrides, (existing) => {
      const names = piecesOf(mergeConfig(existing, ours).config).flatMap(({ name }) => (isOurs(name) ? [name] : []));
      assert.deepEqual(
        names,
        piecesOf(ours).map(({ name }) => name),
      );
    }),
  );
});

test('stale pieces of an earlier version go and are named, and the order of keys stays', () => {
  const existing = configOf({
    systemd: {
      units: [
        { name: 'prestage-agent.service', enabled: true },
        { name: 'chronyd.service', enabled: true },
      ],
    },
    storage: {
      directories: [{ path: '/etc/prestage-agent/lists' }],
      files: [
        { path: '/usr/local/bin/prestage-extract.sh' },
        { path: '/etc/chrony.conf', mode: 420 },
        { path: '/usr/local/bin/prestage-launcher' },
      ],
    },
    ignition: { version: '3.2.0' },
  });
  const { config, removed } = mergeConfig(existing, ours);
  assert.deepEqual(removed, ['/etc/prestage-agent/lists', '/usr/local/bin/prestage-extract.sh', 'prestage-agent.service']);
  assert.equal(
    JSON.stringify(config),
    JSON.stringify({
      systemd: { units: [{ name: 'chronyd.service', enabled: true }, ...(ours.systemd?.units ?? [])] },
      storage: { directories: [], files: [{ path: '/etc/chrony.conf', mode: 420 }, ...(ours.storage?.files ?? [])] },
      ignition: { version: '3.2.0' },
    }),
  );
});

test('merging nothing takes ours out and adds no lists', () => {
  const nothing = configOf({ ignition: { version: '3.1.0' } });
  const others = configOf({
    ignition: { version: '3.1.0' },
    storage: { files: [{ path: '/a' }] },
    systemd: { units: [{ name: 'a.service' }] },
  });
  assert.deepEqual(mergeConfig(mergeConfig(others, ours).config, nothing).config, others);
  assert.deepEqual(mergeConfig(nothing, nothing).config, { ...nothing, storage: {}, systemd: {} });
});

test('settings and drop-ins that the author gave to the agent stay', () => {
  const dropins = [{ name: '10-site.conf', contents: '[Service]\nNice=5\n' }];
  const existing = configOf({
    ignition: { version: '3.1.0' },
    storage: { files: [{ path: '/etc/prestage-agent/config.yaml', mode: 420, contents: { source: 'data:,parallel%3A%202' } }] },
    systemd: { units: [{ name: 'prestage-agent-discovery.service', dropins }] },
  });
  const { config, removed } = mergeConfig(existing, ours);
  assert.deepEqual(removed, []);
  assert.deepEqual(config.storage?.files, [...(existing.storage?.files ?? []), ...(ours.storage?.files ?? [])]);
  assert.deepEqual(
    config.systemd?.units,
    (ours.systemd?.units ?? []).map((unit) => ({ ...unit, dropins })),
  );
});

test('a file or a link where we need a directory is refused, each with its place', () => {
  const existing = configOf({
    ignition: { version: '3.1.0' },
    storage: { files: [{ path: '/etc/other' }, { path: '/usr/local/bin' }], links: [{ path: '/etc', target: '/var/etc' }] },
  });
  assert.deepEqual(
    thrownBy(() => mergeConfig(existing, ours)),
    {
      code: 'ERR_IGNITION_NAME',
      message: [
        'the override and prestage-agent claim the same names: 2 faults',
        '$.storage.files[1]: "/usr/local/bin" is a file, but /usr/local/bin/prestage-launcher needs a directory there',
        '$.storage.links[0]: "/etc" is a link, but /etc/prestage-agent/launcher.env needs a directory there',
      ].join('\n'),
      remedy: 'Remove these pieces from the override, or rename them, and merge again',
    },
  );
});

const foreign = [
  ['agent.service', 'the assisted agent'],
  ['selinux.service', 'the assisted agent'],
  ['chronyd.service', 'others'],
];
for (const [name = '', owner = ''] of foreign) {
  test(`a template that claims the unit ${name} is refused`, () => {
    const { template, ...texts } = shippedTexts('discovery');
    const changed = ourIgnition('discovery', { texts: { ...texts, template: template.replace('prestage-agent-discovery.service', name) } });
    const fault = `$.systemd.units[0]: "${name}" belongs to ${owner}; prestage-agent writes only its own names`;
    assert.deepEqual(foreignNames(changed), [fault]);
    assert.equal(thrownBy(() => mergeConfig(configOf({ ignition: { version: '3.1.0' } }), changed)).message, fault);
  });
}

const foreignPaths = [
  '/usr/local/bin/agent-fix-bz1964591',
  '/usr/local/bin/agent-pull-image',
  '/etc/containers/registries.conf',
  '/etc/containers/policy.json',
  '/etc/motd',
];
for (const path of foreignPaths) {
  test(`a template that claims the file ${path} is refused`, () => {
    const { template, ...texts } = shippedTexts('installed');
    const changed = ourIgnition('installed', { texts: { ...texts, template: template.replace('/etc/prestage-agent/launcher.env', path) } });
    assert.match(foreignNames(changed).join('\n'), new RegExp(`^\\$\\.storage\\.files\\[1\\]: "${path}" belongs to (?!others)`));
  });
}
