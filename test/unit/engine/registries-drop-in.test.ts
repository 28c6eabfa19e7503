import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { renderDropIn } from '../../../agent/engine/registries-drop-in.ts';
import { parseRegistries, type RegistryEntry } from '../../../agent/engine/registries-file.ts';
import type { MirrorRequest } from '../../../agent/engine/registries-plan.ts';
import { mirrorSources } from '../../../agent/engine/registries-sources.ts';
import { emptyView, mergeRegistries } from '../../../agent/engine/registries-view.ts';
import { assertGolden } from '../../support/golden.ts';
import { configurations, endpointsOf, entryOf, images, MAIN, mirrorOf, repositories } from '../../support/registries.ts';
import { thrownBy } from '../../support/thrown.ts';

const FILE = '/etc/containers/registries.conf.d/50-prestage.conf';
const OURS = '127.0.0.1:5001';
const viewOf = (...entries: readonly RegistryEntry[]) => mergeRegistries([{ entries, globals: {} }]);
const wish = (prefixes: readonly string[], rest: Partial<MirrorRequest> = {}): MirrorRequest => ({
  sources: prefixes.map((prefix) => ({ prefix, mirrors: [`${OURS}/${prefix}`] })),
  insecure: true,
  block: false,
  ...rest,
});
const ours = (path: string) => mirrorOf(`${OURS}/${path}`, { insecure: true });
const entriesOf = (text: string) => parseRegistries(text, FILE).entries;

test('a source that nobody configured gets our mirror and stays last', () => {
  const { text, notices } = renderDropIn(emptyView, wish(['quay.io/ns/app']), 'per-mirror');
  assert.equal(
    text,
    `# Written by prestage-agent; removed by: prestage-agent release

[[registry]]
prefix = "quay.io/ns/app"
location = "quay.io/ns/app"

[[registry.mirror]]
location = "127.0.0.1:5001/quay.io/ns/app"
insecure = true
`,
  );
  assert.deepEqual(notices, []);
});

test('the drop-in of a node with mirrors of a cluster is the golden one, in both dialects', () => {
  const file = '/etc/containers/registries.conf.d/99-cluster.conf';
  const view = viewOf(
    entryOf('quay.io/openshift-release-dev', { mirrorByDigestOnly: true, mirrors: [mirrorOf('mirror.example.com/release')] }),
    entryOf('registry.redhat.io', { blocked: true, mirrors: [mirrorOf('mirror.example.com/redhat', { pullFromMirror: 'tag-only' })] }),
    entryOf('registry.redhat.io/rhel8/support-tools/deeper', { mirrors: [mirrorOf('deep.example.com')] }),
    entryOf('docker.io/library/busybox', { insecure: true, file }),
    entryOf('*.example.org', { location: '', mirrors: [mirrorOf('mirror.example.com/org', { insecure: true })], extra: { note: 'kept' } }),
  );
  const references = [
    `quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:${'a'.repeat(64)}`,
    `quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:${'b'.repeat(64)}`,
    'registry.redhat.io/rhel8/support-tools:latest',
    'busybox',
    'one.example.org/team/tool:v1',
    'REGISTRY.example.net:5000/team/tool:v1',
  ];
  for (const dialect of ['per-mirror', 'per-registry'] as const) {
    const sources = mirrorSources(references, [OURS, '192.0.2.7:5001']);
    const { text, notices } = renderDropIn(view, { sources, insecure: false, block: false }, dialect);
    assertGolden(`registries/${dialect}.conf`, text);
    const late = `${file} is read after ${FILE} and overrides it for docker.io/library/busybox: rename it so that it is read before; otherwise engines do not ask our mirrors`;
    const digests =
      'This podman version cannot use our mirrors of quay.io/openshift-release-dev/ocp-v4.0-art-dev for tags: pulls by tag still go to the source registry';
    assert.deepEqual(notices, dialect === 'per-mirror' ? [late] : [digests, late]);
  }
});

test('an entry of our prefix is taken over whole, with ours in front', () => {
  const existing = entryOf('quay.io/a', {
    location: 'moved.test/a',
    insecure: true,
    mirrors: [mirrorOf('m1.test'), mirrorOf('m2.test')],
    extra: { n: 1 },
  });
  const { text } = renderDropIn(viewOf(existing), wish(['quay.io/a']), 'per-mirror');
  assert.deepEqual(entriesOf(text), [{ ...existing, mirrors: [ours('quay.io/a'), ...existing.mirrors], file: FILE }]);
});

test('entries of longer prefixes get our mirror, too, at their place in it', () => {
  const below = [entryOf('quay.io/a/b', { mirrors: [mirrorOf('m1.test')] }), entryOf('quay.io/a:v1', { insecure: true })];
  const { text } = renderDropIn(viewOf(...below, entryOf('quay.io/ab')), wish(['quay.io/a']), 'per-mirror');
  assert.deepEqual(
    entriesOf(text),
    [
      entryOf('quay.io/a', { mirrors: [ours('quay.io/a')], file: FILE }),
      entryOf('quay.io/a/b', { mirrors: [ours('quay.io/a/b'), mirrorOf('m1.test')], file: FILE }),
      entryOf('quay.io/a:v1', { insecure: true, mirrors: [ours('quay.io/a:v1')], file: FILE }),
    ].toSorted((a, b) => (a.prefix < b.prefix ? -1 : 1)),
  );
});

test('a source that is not to be asked is blocked at its own place, also where it led to another', () => {
  const view = viewOf(entryOf('quay.io', { location: 'moved.test', mirrors: [mirrorOf('m1.test')] }));
  const { text } = renderDropIn(view, wish(['quay.io/a'], { block: true }), 'per-mirror');
  assert.deepEqual(entriesOf(text), [
    entryOf('quay.io/a', { blocked: true, mirrors: [ours('quay.io/a'), mirrorOf('m1.test/a')], file: FILE }),
  ]);
});

test('what a wider entry blocks stays blocked', () => {
  const { text } = renderDropIn(viewOf(entryOf('quay.io', { blocked: true })), wish(['quay.io/a']), 'per-mirror');
  assert.deepEqual(entriesOf(text), [entryOf('quay.io/a', { blocked: true, mirrors: [ours('quay.io/a')], file: FILE })]);
});

test('an entry that would make the file unreadable for engines is left out, and a notice says why', () => {
  const view = viewOf(entryOf('a.test', { location: 'same.test', insecure: true }), entryOf('b.test', { location: 'same.test' }));
  const { text, notices } = renderDropIn(view, wish(['a.test/r', 'b.test/r']), 'per-mirror');
  assert.deepEqual(
    entriesOf(text).map(({ prefix }) => prefix),
    ['a.test/r'],
  );
  assert.deepEqual(notices, [
    'b.test/r gets no mirror of ours: it leads to same.test/r, like a.test/r, but with another "insecure" or "blocked"',
  ]);
});

test('a file of the root user that hides /etc is a notice', () => {
  const { notices } = renderDropIn({ ...emptyView, shadowedBy: '/root/x.conf' }, wish(['quay.io/a']), 'per-mirror');
  assert.deepEqual(notices, [
    'podman reads /root/x.conf for root, and nothing in /etc/containers: move that file away; otherwise engines do not ask our mirrors',
  ]);
});

test('keys that nobody knows are written again, whatever TOML value they have', () => {
  const keys = `integer = 9007199254740993
small = -3
float = 1.5
inf = inf
nan = nan
minus = -inf
bool = false
time = 1979-05-27T07:32:00Z
day = 1979-05-27
"a key" = ["x", { y = "\\u007f \\" \\\\" }]
`;
  const existing = `[[registry]]\nlocation = "quay.io/a"\n${keys}[[registry.mirror]]\nlocation = "m.test"\n${keys}`;
  const [before] = parseRegistries(existing, FILE).entries;
  assert.ok(before);
  const [after] = entriesOf(renderDropIn(viewOf(before), wish(['quay.io/a']), 'per-mirror').text);
  assert.deepEqual(after, { ...before, mirrors: [ours('quay.io/a'), ...before.mirrors] });
});

test('each repository is one source, with a mirror at every address, and docker.io has its library', () => {
  assert.deepEqual(mirrorSources(['quay.io/b/c:1', `quay.io/b/c@sha256:${'0'.repeat(64)}`, 'busybox', 'REG.test:80/a'], ['h1:1', 'h2:2']), [
    { prefix: 'REG.test:80/a', mirrors: ['h1:1/reg.test_80/a', 'h2:2/reg.test_80/a'] },
    { prefix: 'docker.io/library/busybox', mirrors: ['h1:1/docker.io/library/busybox', 'h2:2/docker.io/library/busybox'] },
    { prefix: 'quay.io/b/c', mirrors: ['h1:1/quay.io/b/c', 'h2:2/quay.io/b/c'] },
  ]);
  assert.equal(thrownBy(() => mirrorSources(['no reference'], [OURS])).code, 'ERR_REFERENCE');
});

test('images of our sources are asked for at our mirror and then wherever they were before, all others as before', () => {
  fc.assert(
    fc.property(
      configurations,
      fc.uniqueArray(repositories, { minLength: 1, maxLength: 4 }),
      images,
      fc.boolean(),
      (entries, prefixes, image, insecure) => {
        const view = viewOf(...entries);
        const { text, notices } = renderDropIn(view, wish(prefixes, { insecure }), 'per-mirror');
        const after = mergeRegistries([view, parseRegistries(text, FILE)]).entries;
        const source = prefixes.find((prefix) => [':', '/', '@'].some((mark) => image.startsWith(prefix + mark)));
        const isLeftOut = notices.some((notice) => notice.includes('gets no mirror of ours'));
        fc.pre(!isLeftOut);
        const mirror = source === undefined ? [] : [{ image: `${OURS}/${image}`, insecure, blocked: false }];
        assert.deepEqual(endpointsOf(after, image), [...mirror, ...endpointsOf(view.entries, image)]);
      },
    ),
    { numRuns: 2000 },
  );
});

test('every mirror of every prefix that was configured is still there in its order, behind ours', () => {
  fc.assert(
    fc.property(
      configurations,
      fc.uniqueArray(repositories, { maxLength: 4 }),
      fc.constantFrom('per-mirror', 'per-registry'),
      (entries, prefixes, dialect) => {
        const view = viewOf(...entries);
        const { text } = renderDropIn(view, wish(prefixes), dialect);
        const after = new Map(mergeRegistries([view, parseRegistries(text, FILE)]).entries.map((entry) => [entry.prefix, entry]));
        for (const { prefix, mirrors } of entries) {
          const locations = after.get(prefix)?.mirrors.map(({ location }) => location) ?? [];
          assert.deepEqual(
            locations.slice(locations.length - mirrors.length),
            mirrors.map(({ location }) => location),
          );
        }
      },
    ),
  );
});

test('a blocked source is asked for nothing, and our mirror still is', () => {
  fc.assert(
    fc.property(configurations, repositories, (entries, prefix) => {
      const view = viewOf(...entries);
      const { text } = renderDropIn(view, wish([prefix], { block: true }), 'per-mirror');
      const [first, ...rest] = endpointsOf(mergeRegistries([view, parseRegistries(text, FILE)]).entries, `${prefix}:v1`);
      assert.deepEqual(first, { image: `${OURS}/${prefix}:v1`, insecure: true, blocked: false });
      assert.deepEqual([rest.at(-1)?.image, rest.at(-1)?.blocked], [`${prefix}:v1`, true]);
    }),
  );
});

test('the same input gives the same bytes, in whatever order the sources come', () => {
  fc.assert(
    fc.property(configurations, fc.uniqueArray(repositories, { maxLength: 4 }), (entries, prefixes) => {
      const render = (order: readonly string[]) => renderDropIn(viewOf(...entries), wish(order), 'per-mirror');
      assert.deepEqual(render(prefixes), render(prefixes.toReversed()));
    }),
  );
});

test('the file of the main configuration is named where an entry goes on with it', () => {
  const { text } = renderDropIn(viewOf(entryOf('quay.io')), wish(['quay.io/a']), 'per-mirror');
  assert.equal(text.split('\n')[2], `# Includes the settings of ${MAIN} for quay.io.`);
});
