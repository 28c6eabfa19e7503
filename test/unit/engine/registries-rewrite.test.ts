import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseRegistries, type RegistryEntry } from '../../../agent/engine/registries-file.ts';
import { withoutRewrite } from '../../../agent/engine/registries-marks.ts';
import type { MirrorRequest } from '../../../agent/engine/registries-plan.ts';
import { rewriteRegistries } from '../../../agent/engine/registries-rewrite.ts';
import { entryLines } from '../../../agent/engine/registries-toml.ts';
import { mergeRegistries } from '../../../agent/engine/registries-view.ts';
import { configurations, endpointsOf, entryOf, images, MAIN, mirrorOf, repositories } from '../../support/registries.ts';
import { thrownBy } from '../../support/thrown.ts';

const OURS = '127.0.0.1:5001';
const wish = (prefixes: readonly string[], rest: Partial<MirrorRequest> = {}): MirrorRequest => ({
  sources: prefixes.map((prefix) => ({ prefix, mirrors: [`${OURS}/${prefix}`] })),
  insecure: true,
  block: false,
  ...rest,
});

/** Rewrites a text that is the only configuration of its node, but for drop-ins with these entries. */
function rewrite(text: string, request: MirrorRequest, dropIns: readonly RegistryEntry[] = []) {
  const view = mergeRegistries([parseRegistries(withoutRewrite(text), MAIN), { entries: dropIns, globals: {} }]);
  return rewriteRegistries(text, view, { request, dialect: 'per-mirror' });
}

const EXISTING = `# Of the site, see ticket 12
unqualified-search-registries = [
  "registry.access.redhat.com", # first
  'docker.io',
]

[[registry]]  # the release
  prefix = ""
  location = "quay.io/release"
  mirror-by-digest-only = true # by the cluster
  blocked = false

  # the old one
  [[registry.mirror]]
    location = "m1.test/release"

  [[registry.mirror]]
    location = "m2.test/release"

# about quay.io
[[registry]]
location = "quay.io"

[aliases]
"tool" = "quay.io/team/tool"`;

test('a rewritten file keeps all lines, with ours between marks: in front of mirrors, behind keys, and at the end', () => {
  const { text, notices } = rewrite(EXISTING, wish(['quay.io/release', 'quay.io/team/tool']));
  assert.equal(
    text,
    `# Of the site, see ticket 12
unqualified-search-registries = [
  "registry.access.redhat.com", # first
  'docker.io',
]

[[registry]]  # the release
  prefix = ""
  location = "quay.io/release"
# prestage-agent put aside:   mirror-by-digest-only = true # by the cluster
  blocked = false

# >>> prestage-agent: written by run --rewrite; removed by: prestage-agent release

[[registry.mirror]]
location = "127.0.0.1:5001/quay.io/release"
insecure = true
# <<< prestage-agent
  # the old one
  [[registry.mirror]]
# >>> prestage-agent: written by run --rewrite; removed by: prestage-agent release
pull-from-mirror = "digest-only"
# <<< prestage-agent
    location = "m1.test/release"

  [[registry.mirror]]
# >>> prestage-agent: written by run --rewrite; removed by: prestage-agent release
pull-from-mirror = "digest-only"
# <<< prestage-agent
    location = "m2.test/release"

# about quay.io
[[registry]]
location = "quay.io"

[aliases]
"tool" = "quay.io/team/tool"
# >>> prestage-agent: written by run --rewrite; removed by: prestage-agent release

[[registry]]
prefix = "quay.io/team/tool"
location = "quay.io/team/tool"

[[registry.mirror]]
location = "127.0.0.1:5001/quay.io/team/tool"
insecure = true
# <<< prestage-agent
`,
  );
  assert.deepEqual(notices, []);
  assert.equal(withoutRewrite(text), `${EXISTING}\n`);
});

test('a table without mirrors gets ours behind its keys, and a blocked source a line of ours', () => {
  const { text } = rewrite('[[registry]]\nprefix = "quay.io/a"\nlocation = "moved.test"\n\n# end\n', wish(['quay.io/a'], { block: true }));
  assert.deepEqual(parseRegistries(text, MAIN).entries, [
    entryOf('quay.io/a', { blocked: true, mirrors: [mirrorOf(`${OURS}/quay.io/a`, { insecure: true })] }),
  ]);
  assert.ok(text.includes('\n# prestage-agent put aside: location = "moved.test"\n'), text);
  assert.ok(text.endsWith('\n# <<< prestage-agent\n\n# end\n'), text);
});

test('a file that is not there is made of our tables alone', () => {
  const { text } = rewrite('', wish(['quay.io/a']));
  assert.deepEqual(parseRegistries(text, MAIN).entries, [
    entryOf('quay.io/a', { mirrors: [mirrorOf(`${OURS}/quay.io/a`, { insecure: true })] }),
  ]);
});

test('what an earlier rewrite left for other images goes', () => {
  const first = rewrite(EXISTING, wish(['quay.io/release', 'quay.io/gone'])).text;
  assert.equal(rewrite(first, wish(['quay.io/team/tool'])).text, rewrite(EXISTING, wish(['quay.io/team/tool'])).text);
  assert.equal(rewrite(first, wish([])).text, `${EXISTING}\n`);
});

test('a prefix that a drop-in decides over is left alone, and a notice says so', () => {
  const file = '/etc/containers/registries.conf.d/10-site.conf';
  const { text, notices } = rewrite(EXISTING, wish(['quay.io/release']), [entryOf('quay.io/release', { file })]);
  assert.equal(text, EXISTING);
  assert.deepEqual(notices, [
    `${file} overrides ${MAIN} for quay.io/release: leave --rewrite out; otherwise engines do not ask our mirrors`,
  ]);
});

test('a table that leads to the place of another one of the file, but secured otherwise, is not added', () => {
  const { text, notices } = rewrite('[[registry]]\nlocation = "quay.io/a"\ninsecure = true\n', wish(['b.test/a']), [
    entryOf('b.test', { location: 'quay.io' }),
  ]);
  assert.equal(text, '[[registry]]\nlocation = "quay.io/a"\ninsecure = true\n');
  assert.deepEqual(notices, [
    'b.test/a gets no mirror of ours: it leads to quay.io/a, like quay.io/a, but with another "insecure" or "blocked"',
  ]);
});

test('a file that cannot be edited line by line is refused instead of changed in its meaning', () => {
  const inline = 'registry = [{ location = "quay.io/a" }]\n';
  const mirrors = '[[registry]]\nlocation = "quay.io/a"\nmirror = [{ location = "m.test" }]\n';
  const quoted = '[["registry"]]\nlocation = "quay.io/a"\n';
  const hidden = '[[registry]]\nlocation = "quay.io/a"\nnote = """\n[[registry]]\n"""\nmirror-by-digest-only = true\n';
  const quoting = '[[registry]]\nlocation = "quay.io/a"\nmirror-by-digest-only = true\nnote = """\nmirror-by-digest-only = 1\n"""\n';
  const twice = '[[registry]]\nlocation = "quay.io/a"\n[[registry]]\nlocation = "quay.io/a"\n';
  const table: readonly (readonly [string, string])[] = [
    [inline, 'its tables are not written as [[registry]], each on a line of its own'],
    [mirrors, 'our mirrors do not fit into its tables'],
    [quoted, 'its tables are not written as [[registry]], each on a line of its own'],
    [hidden, 'its tables are not written as [[registry]], each on a line of its own'],
    [quoting, 'that would change its other settings'],
    [twice, 'it has more than one [[registry]] for quay.io/a'],
  ];
  for (const [text, why] of table) {
    assert.deepEqual(
      thrownBy(() => rewrite(text, wish(['quay.io/a']))),
      {
        code: 'ERR_REGISTRIES',
        message: `${MAIN} cannot be rewritten: ${why}`,
        remedy: 'Leave --rewrite out: the drop-in does the same without touching that file',
      },
      text,
    );
  }
});

const comments = fc.constantFrom('# a comment', '', '  # [[registry]]', '# prestage');
/** Configurations as a file that a person wrote: comments, empty lines, indentation, Windows line ends. */
const texts = fc
  .tuple(configurations, fc.array(comments, { minLength: 40, maxLength: 40 }), fc.constantFrom('', '  '), fc.constantFrom('\n', '\r\n'))
  .map(([entries, between, indent, end]) => {
    const lines = entries.flatMap((entry) => entryLines(entry)).map((line) => indent + line);
    const mixed = ['short-name-mode = "permissive"', ...lines].flatMap((line, index) => [
      line,
      ...(index % 2 ? [between[index % 40] ?? ''] : []),
    ]);
    return mixed.map((line) => line + end).join('');
  });
const requests = fc
  .tuple(fc.uniqueArray(repositories, { maxLength: 4 }), fc.boolean())
  .map(([prefixes, insecure]) => wish(prefixes, { insecure }));

test('a rewritten file asks ours first and then whatever was asked before, in every configuration', () => {
  fc.assert(
    fc.property(texts, requests, images, (text, request, image) => {
      const { text: rewritten, notices } = rewrite(text, request);
      fc.pre(notices.length === 0);
      const isOurs = request.sources.some(({ prefix }) => [':', '/', '@'].some((mark) => image.startsWith(prefix + mark)));
      const before = endpointsOf(mergeRegistries([parseRegistries(text, MAIN)]).entries, image);
      const after = endpointsOf(mergeRegistries([parseRegistries(rewritten, MAIN)]).entries, image);
      assert.deepEqual(after, [...(isOurs ? [{ image: `${OURS}/${image}`, insecure: request.insecure, blocked: false }] : []), ...before]);
    }),
    { numRuns: 1000 },
  );
});

test('a rewrite can be taken back to the byte, and done again it changes nothing', () => {
  fc.assert(
    fc.property(texts, requests, fc.boolean(), (text, request, block) => {
      const once = rewrite(text, { ...request, block }).text;
      assert.equal(withoutRewrite(once), text);
      assert.equal(rewrite(once, { ...request, block }).text, once);
    }),
    { numRuns: 500 },
  );
});
