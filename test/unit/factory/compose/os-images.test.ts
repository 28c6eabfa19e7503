import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeBundle } from '../../../../agent/factory/compose/describe-bundle.ts';
import { isOperatingSystem, OS_IMAGE_CHOICES, type OsImageChoice, planOsImages } from '../../../../agent/factory/compose/os-images.ts';
import { planBuild } from '../../../../agent/factory/compose/plan.ts';
import { siteReadme } from '../../../../agent/factory/compose/site-readme.ts';
import { buildFacts } from '../../../support/build-facts.ts';
import { named } from '../../../support/source-images.ts';

const release = (version: string) => named(`quay.io/openshift-release-dev/ocp-release:${version}-x86_64`, ['base']);
const system = named('quay.io/e/art@sha256:aa', ['base', 'system'], { labels: { 'containers.bootc': '1' } });
const extensions = named('quay.io/e/art@sha256:bb', ['extensions'], { labels: { 'io.openshift.os.extensions': 'true' } });

test('operating systems and their extensions are known by labels, or by the component that a tag names', () => {
  const labelled = (labels: Readonly<Record<string, string>>): boolean =>
    isOperatingSystem({ names: ['quay.io/e/x:1'], image: { labels } });
  for (const label of ['ostree.bootable', 'ostree.commit', 'containers.bootc']) assert.equal(labelled({ [label]: '1' }), true, label);
  assert.deepEqual(
    [{ 'io.openshift.os.extensions': 'true' }, { 'io.openshift.os.extensions': 'false' }, { 'io.openshift.release': '4.18.0' }, {}].map(
      labelled,
    ),
    [true, false, false, false],
  );
  const tagged = (name: string): boolean => isOperatingSystem({ names: [name], image: { labels: {} } });
  const systems = [
    ...[
      'rhel-coreos',
      'rhel-coreos-10',
      'rhel-coreos-10-extensions',
      'stream-coreos',
      'fedora-coreos',
      '4.15.8-x86_64-rhel-coreos-extensions-x86_64',
    ],
  ];
  for (const tag of systems) assert.equal(tagged(`registry.example.com:5000/ocp/release:${tag}`), true, tag);
  assert.equal(tagged(`quay.io/e/x:rhel-coreos@sha256:${'a'.repeat(64)}`), true);
  for (const name of [
    'quay.io/e/rhel-coreos',
    'quay.io/e/x:coreos-installer',
    'quay.io/e/x:4.15.8-x86_64-rhel-coreos-other',
    'rhel-coreos:5000/e/x',
  ])
    assert.equal(tagged(name), false, name);
});

test('the release decides what becomes of them unless somebody does, and what is told has their layers once', () => {
  const twice = [system, { ...system, reference: 'quay.io/e/again:1' }, extensions];
  const of = (version: string, wanted?: OsImageChoice) => planOsImages([release(version), ...twice], wanted);
  assert.deepEqual(of('4.22.1'), {
    choice: 'serve',
    reason: 'a node of 4.22.1 reads it from a registry',
    references: [system.reference, 'quay.io/e/again:1', extensions.reference],
    layerBytes: 30,
  });
  assert.deepEqual([of('5.0.0-rc.1').choice, of('10.1.0').choice, of('5.0.0', 'store').choice], ['both', 'both', 'store']);
  assert.equal(of('5.0.0').reason, 'a node of 5.0.0 takes it from its store if available, else from a registry');
  assert.deepEqual([of('4.21.0', 'omit').reason, planOsImages([system], undefined).reason], ['asked for', 'the release is not known']);
  assert.deepEqual(planOsImages([release('4.21.0')], undefined).references, []);
});

test('what is served lies whole beside the store of the installed stage, and prestage.json says what is where', () => {
  const images = [release('4.21.0'), system];
  const stages = [
    { stage: 'discovery', images },
    { stage: 'installed', images },
  ] as const;
  const factsOf = (choice: OsImageChoice, canLink = true) => buildFacts({ stages, canLink, osImages: planOsImages(images, choice) });
  const seen = OS_IMAGE_CHOICES.filter((choice) => choice !== 'omit').map((choice) => {
    const facts = factsOf(choice);
    const parts = planBuild(facts);
    const made = Object.fromEntries(parts.map(({ id }) => [id, { key: '', files: [], rootHash: 'c'.repeat(64) }]));
    const createdBy = { name: 'prestage-agent', version: '1' };
    const bundle = describeBundle(facts, { parts, made, unpackedBytes: new Map(), createdAt: new Date(0), createdBy });
    const [discovery, installed] = bundle.payloads;
    assert.ok(discovery?.kind === 'store' && installed?.kind === 'store');
    assert.deepEqual([discovery.unmirrored, discovery.osTree, discovery.unstored], [[system.reference], undefined, undefined]);
    assert.equal(/store\/(?:installed|all)\.os\//.test(siteReadme(bundle, [])), installed.osTree !== undefined);
    const last = parts.at(-1);
    return [choice, last?.id, last?.images.length, installed.unmirrored, installed.osTree, installed.unstored, last?.outputBytes];
  });
  assert.deepEqual(seen, [
    ['serve', 'store-installed', 1, [system.reference], 'store/installed.os', [system.reference], 10],
    ['store', 'store', 2, [system.reference], undefined, undefined, 20],
    ['both', 'store', 2, [system.reference], 'store/all.os', undefined, 20],
  ]);
  const keys = OS_IMAGE_CHOICES.map((choice) => planBuild(factsOf(choice)).at(-1)?.key);
  assert.equal(new Set(keys.slice(0, 3)).size, 3);
  assert.equal(planBuild(factsOf('both', false)).at(-1)?.outputBytes, 40);
});
