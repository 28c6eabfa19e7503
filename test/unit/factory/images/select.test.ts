import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CLASSIFICATION, fits, type NamedImage, parseClassification, stagesOf } from '../../../../agent/factory/images/classification.ts';
import { mergeLists } from '../../../../agent/factory/images/merge.ts';
import { brokenComponents, parseImageReferences } from '../../../../agent/factory/images/release.ts';
import { selectImages } from '../../../../agent/factory/images/select.ts';
import { thrownBy } from '../../../support/thrown.ts';

const image = (component: string | undefined, reference = `quay.io/o/${component}:1`): NamedImage => ({ component, reference });
const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;

test('the release image and what bootstraps a cluster are needed in both stages, the rest when it is installed', () => {
  assert.deepEqual(stagesOf(image('release')), ['discovery', 'installed']);
  assert.deepEqual(stagesOf(image('machine-config-operator')), ['discovery', 'installed']);
  assert.deepEqual(stagesOf(image('console')), ['installed']);
  assert.deepEqual(stagesOf(image(undefined)), ['installed']);
});

test('the assisted installer is needed in discovery, its reporter in both', () => {
  const mce = (name: string): NamedImage => image(undefined, `registry.example.com:5000/multicluster-engine/${name}@${digest('a')}`);
  assert.deepEqual(stagesOf(mce('assisted-installer-agent-rhel8')), ['discovery']);
  assert.deepEqual(stagesOf(mce('assisted-installer-reporter-rhel8')), ['discovery', 'installed']);
});

test('fourteen components are needed in both stages', () => {
  assert.equal(
    CLASSIFICATION.filter((row) => row.component !== undefined && row.component !== '*' && row.component !== 'release').length,
    14,
  );
});

test('a user’s rows come first, and what they do not name falls to the built-in ones', () => {
  const rows = [
    ...parseClassification(
      '- {component: console, stages: [discovery]}\n- {repository: "quay.io/mine/*", stages: [discovery, installed]}',
      'mine.yaml',
    ),
    ...CLASSIFICATION,
  ];
  assert.deepEqual(
    [stagesOf(image('console'), rows), stagesOf(image('x', 'quay.io/mine/y:1'), rows), stagesOf(image('x'), rows)],
    [['discovery'], ['discovery', 'installed'], ['installed']],
  );
});

test('a classification that is none is refused with its places', () => {
  assert.deepEqual(thrownBy(() => parseClassification('- {stages: [boot]}', 'c.yaml')).code, 'ERR_CLASSIFICATION');
  assert.match(
    thrownBy(() => parseClassification('- {component: x, stages: [boot]}', 'c.yaml')).message,
    /^c.yaml is not a classification: 0.stages.0: /,
  );
  assert.match(thrownBy(() => parseClassification('- {stages: [installed]}', 'c.yaml')).message, /needs a component or a repository/);
  assert.match(thrownBy(() => parseClassification('a: [', 'c.yaml')).message, /^c.yaml is not YAML: /);
});

test('no row, no stage', () => {
  assert.deepEqual(stagesOf(image('x'), []), []);
});

test('an asterisk stands for any text, everything else for itself', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['*', '', true],
    ['a*c', 'abc', true],
    ['a*c', 'ab', false],
    ['a*b*c', 'a-b-c', true],
    ['a*b*c', 'a-c', false],
    ['aa*aa', 'aaa', false],
    ['a*bc*bc', 'abc', false],
    ['a.c', 'abc', false],
    ['abc', 'abc', true],
  ];
  assert.deepEqual(
    cases.map(([pattern, text]) => fits(pattern, text)),
    cases.map(([, , expected]) => expected),
  );
  assert.equal(fits(undefined, 'x'), true);
});

test('law: a pattern agrees with the regular expression of the same meaning', () => {
  const texts = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), maxLength: 8 });
  const plain = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 });
  fc.assert(
    fc.property(texts, plain, (pattern, text) => {
      const expression = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
      assert.equal(fits(pattern, text), expression.test(text));
    }),
  );
});

test('image-references gives version and components in order', () => {
  const text = JSON.stringify({
    kind: 'ImageStream',
    metadata: { name: '4.14.0' },
    spec: {
      tags: [
        { name: 'etcd', from: { kind: 'DockerImage', name: `quay.io/o/a@${digest('a')}` } },
        { name: 'pod', from: { kind: 'DockerImage', name: `quay.io/o/a@${digest('b')}` } },
      ],
    },
  });
  assert.deepEqual(parseImageReferences(text, 'r'), {
    version: '4.14.0',
    images: [
      { reference: `quay.io/o/a@${digest('a')}`, component: 'etcd' },
      { reference: `quay.io/o/a@${digest('b')}`, component: 'pod' },
    ],
    broken: [],
  });
  assert.equal(parseImageReferences('{"kind":"ImageStream","spec":{"tags":[]}}', 'r').version, '');
});

test('what is no image-references is refused', () => {
  assert.equal(thrownBy(() => parseImageReferences('{', 'r')).code, 'ERR_RELEASE');
  assert.match(thrownBy(() => parseImageReferences('{"kind":"Pod"}', 'r')).message, /kind/);
});

test('components without a pull-spec of their own are told by their place', () => {
  const tags = [
    { name: 'etcd', from: { kind: 'ImageStreamTag', name: '4.14:etcd' } },
    { name: 'pod', from: null },
    { name: 'cli' },
    { name: 'empty', from: { kind: 'DockerImage', name: '' } },
    { name: 'good', from: { kind: 'DockerImage', name: 'quay.io/o/a:1' } },
    { name: 'template', from: { kind: 'DockerImage', name: '{{.Ref1}}' } },
  ];
  const { images, broken } = parseImageReferences(JSON.stringify({ kind: 'ImageStream', spec: { tags } }), 'r');
  const { code, message } = brokenComponents('r', broken);
  assert.deepEqual(images, [{ reference: 'quay.io/o/a:1', component: 'good' }]);
  assert.deepEqual(
    [code, ...message.split('\n')],
    [
      'ERR_RELEASE',
      'r is not a valid list of release components: 5 faults',
      'r is not a valid list of release components: spec.tags.0 ("etcd"): from is {"kind":"ImageStreamTag","name":"4.14:etcd"}, not a DockerImage with a name',
      'r is not a valid list of release components: spec.tags.1 ("pod"): from is null, not a DockerImage with a name',
      'r is not a valid list of release components: spec.tags.2 ("cli"): from is missing, not a DockerImage with a name',
      'r is not a valid list of release components: spec.tags.3 ("empty"): "" is not an image reference: "library/" is not a repository path',
      'r is not a valid list of release components: spec.tags.5 ("template"): "{{.Ref1}}" is not an image reference: "library/{{.Ref1}}" is not a repository path',
    ],
  );
});

test('patterns include and exclude by component or reference, and say what they left out', () => {
  const all = [image('etcd'), image('pod'), image('console'), image(undefined, 'quay.io/o/extra:1')];
  const select = (include: readonly string[], exclude: readonly string[]) =>
    selectImages(all, { stage: undefined, include, exclude, rows: CLASSIFICATION });
  const names = (images: readonly NamedImage[]) => images.map((one) => one.component ?? one.reference);
  assert.deepEqual(names(select([], ['con*']).images), ['etcd', 'pod', 'quay.io/o/extra:1']);
  assert.deepEqual(
    select([], ['con*']).ignored.map((one) => one.reason),
    ['excluded by "con*"'],
  );
  assert.deepEqual(names(select(['etcd', '*/extra:*'], []).images), ['etcd', 'quay.io/o/extra:1']);
  assert.deepEqual(select(['etcd'], ['ectd']).unused, ['ectd']);
  assert.deepEqual(
    select(['etcd'], []).ignored.map((one) => one.reason),
    ['not included', 'not included', 'not included'],
  );
});

test('a stage takes what it needs alone', () => {
  const all = [image('etcd'), image('console')];
  assert.deepEqual(selectImages(all, { stage: 'discovery', include: [], exclude: [], rows: CLASSIFICATION }).images, [image('etcd')]);
});

test('lists are joined in order, doubles are told', () => {
  const merged = mergeLists([
    { where: 'a', text: 'quay.io/o/a:1\nquay.io/o/b:1\n' },
    { where: 'b', text: 'quay.io/o/b:1\nquay.io/o/c:1\n' },
  ]);
  assert.deepEqual(
    [merged.references, merged.notices.length, merged.conflicts],
    [['quay.io/o/a:1', 'quay.io/o/b:1', 'quay.io/o/c:1'], 1, []],
  );
});

test('one tag at two digests and one archive name for two images are conflicts', () => {
  const merged = mergeLists([
    { where: 'a', text: `quay.io/o/a:1@${digest('a')}\nquay.io/o/a:1@${digest('b')}\nquay.io/x/c:1\nquay.io/y/c:1\n` },
  ]);
  assert.deepEqual(merged.conflicts, [
    `quay.io/o/a:1 is listed with different digests: ${digest('a')} and ${digest('b')}`,
    'quay.io/x/c:1 and quay.io/y/c:1 have the same archive name c_1.tgz (only a problem for --format archives)',
  ]);
});

test('one tag at one digest under two texts is no conflict', () => {
  assert.deepEqual(mergeLists([{ where: 'a', text: `quay.io/o/a:1@${digest('a')}\nquay.io/o/a@${digest('a')}\n` }]).conflicts, []);
});
