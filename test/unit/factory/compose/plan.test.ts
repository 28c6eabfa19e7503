import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planOsImages } from '../../../../agent/factory/compose/os-images.ts';
import { type BuildFacts, needsOf, planBuild } from '../../../../agent/factory/compose/plan.ts';
import type { NamedImage } from '../../../../agent/factory/compose/source-image.ts';
import { planCompression } from '../../../../agent/factory/compose/store-compression.ts';
import { digestFor, named } from '../../../support/source-images.ts';

const release = named('quay.io/openshift-release-dev/ocp-release:4.14.0-x86_64', ['base', 'release']);
const tool = named('quay.io/e/tool:1', ['base', 'tool']);
const facts: BuildFacts = {
  architecture: 'amd64',
  payloads: ['store', 'oci', 'archives', 'registry'],
  stages: [
    { stage: 'discovery', images: [release] },
    { stage: 'installed', images: [release, tool] },
  ],
  listFiles: new Map([['ai-images.txt', { from: '/in/a.txt', sha256: 'aa' }]]),
  agents: [{ from: '/dist/agent', path: 'prestage-agent', sizeBytes: 1000, modifiedMs: 1 }],
  stampSeconds: 1_700_000_000,
  unpackedBytes: new Map([...release.image.layers, ...tool.image.layers].map((layer) => [layer.digest, 100])),
  releaseSignatures: [],
  canLink: true,
  osImages: planOsImages([], undefined),
  compression: planCompression('', 'auto', undefined),
};

/** Parts whose key differs between two plans. */
function changed(other: Partial<BuildFacts>): readonly string[] {
  const keys = new Map(planBuild(facts).map((part) => [part.id, part.key]));
  return planBuild({ ...facts, ...other }).flatMap((part) => (keys.get(part.id) === part.key ? [] : [part.id]));
}

test('a plan has a store per stage and one of each other payload, with what each takes', () => {
  assert.deepEqual(
    planBuild(facts).map(({ id, paths, images, outputBytes, workBytes }) => ({
      id,
      paths,
      images: images.map((image) => image.reference),
      outputBytes,
      workBytes,
    })),
    [
      {
        id: 'store-discovery',
        paths: ['store/discovery.squashfs', 'store/discovery.verity', 'store/discovery.mirror'],
        images: [release.reference],
        outputBytes: 20,
        workBytes: 250,
      },
      {
        id: 'store-installed',
        paths: ['store/installed.squashfs', 'store/installed.verity', 'store/installed.mirror'],
        images: [release.reference, tool.reference],
        outputBytes: 30,
        workBytes: 375,
      },
      { id: 'oci', paths: ['oci'], images: [release.reference, tool.reference], outputBytes: 0, workBytes: 0 },
      { id: 'archives', paths: ['archives'], images: [release.reference, tool.reference], outputBytes: 40, workBytes: 0 },
      { id: 'registry', paths: ['registry'], images: [release.reference, tool.reference], outputBytes: 0, workBytes: 0 },
      { id: 'prestage-agent', paths: ['prestage-agent'], images: [], outputBytes: 1000, workBytes: 0 },
    ],
  );
});

test('the same facts give the same keys, and a change touches the parts that are made of it', () => {
  const all = ['store-discovery', 'store-installed', 'oci', 'archives', 'registry'];
  const retagged = { ...tool, names: [...tool.names, 'quay.io/e/tool:2'] };
  const moved = named(tool.reference, ['base', 'other']);
  const cases: readonly (readonly [Partial<BuildFacts>, readonly string[]])[] = [
    [{}, []],
    [{ canLink: false, unpackedBytes: new Map() }, []],
    [{ stampSeconds: 1 }, ['store-discovery', 'store-installed']],
    [{ architecture: 'arm64' }, ['store-discovery', 'store-installed']],
    [{ registryImage: named('quay.io/e/registry:1', ['base']) }, ['store-discovery', 'store-installed', 'registry']],
    [{ listFiles: new Map([['ai-images.txt', { from: '/in/a.txt', sha256: 'bb' }]]) }, ['archives']],
    [{ leftOut: ['quay.io/e/chart:1'] }, ['archives']],
    [{ agents: [{ from: '/dist/agent', path: 'prestage-agent', sizeBytes: 1000, modifiedMs: 2 }] }, ['prestage-agent']],
    [
      {
        stages: [
          { stage: 'discovery', images: [release] },
          { stage: 'installed', images: [release, retagged] },
        ],
      },
      all.filter((id) => id !== 'store-discovery'),
    ],
    [
      {
        stages: [
          { stage: 'discovery', images: [release] },
          { stage: 'installed', images: [release, { ...moved, image: { ...moved.image, manifest: digestFor('moved') } }] },
        ],
      },
      all.filter((id) => id !== 'store-discovery'),
    ],
  ];
  for (const [other, expected] of cases) assert.deepEqual(changed(other), expected);
});

test('stages of equal images, in any order, have one store, unless a name sets them apart', () => {
  const stages = (...installed: readonly NamedImage[]): BuildFacts['stages'] => [
    { stage: 'discovery', images: [release, tool] },
    { stage: 'installed', images: installed },
  ];
  const storesOf = (installed: readonly NamedImage[]) =>
    planBuild({ ...facts, payloads: ['store'], agents: [], stages: stages(...installed) });
  const [shared, ...others] = storesOf([tool, release]);
  assert.deepEqual(others, []);
  assert.deepEqual(
    [shared?.id, shared?.stages, shared?.paths],
    ['store', ['discovery', 'installed'], ['store/all.squashfs', 'store/all.verity', 'store/all.mirror']],
  );
  assert.deepEqual(shared?.images, [release, tool]);
  assert.equal(storesOf([release]).length, 2);
  assert.equal(storesOf([{ ...release, names: ['quay.io/e/other:1'] }, tool]).length, 2);
  assert.deepEqual(
    storesOf([]).map(({ id }) => id),
    ['store-discovery', 'store-installed'],
  );
  assert.deepEqual(planBuild({ ...facts, payloads: ['store'], agents: [], stages: [] }), []);
});

test('another compression or level makes the stores anew and nothing else', () => {
  const stores = ['store-discovery', 'store-installed'];
  assert.deepEqual(changed({ compression: planCompression('', 'zstd', 7) }), stores);
  assert.deepEqual(changed({ compression: planCompression('', 'xz', undefined) }), stores);
  assert.deepEqual(changed({ compression: { ...facts.compression, reason: 'another' } }), []);
});

test('archives that are there are taken as they are, and without links everything is counted', () => {
  const archives = [{ path: '/in/tool_1.tgz', name: 'tool_1', sizeBytes: 77, modifiedMs: 5 }];
  const parts = planBuild({ ...facts, payloads: ['archives', 'oci'], agents: [], archives, canLink: false });
  assert.deepEqual(
    parts.map((part) => [part.id, part.outputBytes]),
    [
      ['archives', 77],
      ['oci', 30],
    ],
  );
  assert.notEqual(
    parts[0]?.key,
    planBuild({ ...facts, archives: [{ ...archives[0], path: '/in/tool_1.tgz', name: 'tool_1', sizeBytes: 77, modifiedMs: 6 }] })[3]?.key,
  );
});

test('a build takes all its output and the work of one part at a time', () => {
  const alone = planBuild(facts).map((part) => [part]);
  assert.deepEqual(needsOf(alone, facts), { outputBytes: 1090, workBytes: 375 });
  assert.deepEqual(needsOf([], facts), { outputBytes: 0, workBytes: 0 });
  assert.deepEqual(needsOf([[]], facts), { outputBytes: 0, workBytes: 0 });
  // Stores that are packed from one storage take it once.
  const [discovery, installed, ...others] = planBuild({
    ...facts,
    stages: [
      { stage: 'discovery', images: [release] },
      { stage: 'installed', images: [tool] },
    ],
  });
  assert.ok(discovery !== undefined && installed !== undefined);
  assert.deepEqual([discovery.workBytes, installed.workBytes, needsOf([[discovery, installed], others], facts).workBytes], [250, 250, 375]);
});

test('an image that serves the registry is in every store and in the tree, listed or not, and once', () => {
  const parts = planBuild({
    ...facts,
    payloads: ['store', 'registry'],
    stages: [{ stage: 'discovery', images: [release] }],
    registryImage: tool,
  });
  assert.deepEqual(
    parts.filter((part) => part.kind !== 'agent').map((part) => [part.id, part.images.map((image) => image.reference)]),
    [
      ['store-discovery', [release.reference, tool.reference]],
      ['registry', [release.reference, tool.reference]],
    ],
  );
});

test('signatures are a part of their own, and decide the payloads that carry them', () => {
  const signature = {
    kind: 'sigstore' as const,
    subject: tool.image.manifest,
    manifest: digestFor('attachment'),
    sizeBytes: 300,
    config: digestFor('attachment config'),
    payloads: [digestFor('payload')],
  };
  const signed = { ...facts, stages: [{ stage: 'installed' as const, images: [release, { ...tool, signatures: [signature] }] }] };
  const parts = planBuild(signed);
  assert.deepEqual(
    parts
      .filter(({ kind }) => kind === 'signatures')
      .map(({ id, paths, images, outputBytes }) => [id, paths, images.map((one) => one.reference), outputBytes]),
    [['signatures', ['signatures'], ['quay.io/e/tool:1'], 3 * 4096]],
  );
  const keyOf = (images: BuildFacts['stages'][number]['images']): string | undefined =>
    planBuild({ ...facts, stages: [{ stage: 'installed', images }] }).find(({ kind }) => kind === 'oci')?.key;
  assert.notEqual(keyOf([{ ...tool, signatures: [signature] }]), keyOf([tool]));
});

test('signatures of releases are a part of their own, also where no image has any', () => {
  const message = digestFor('message');
  const parts = planBuild({ ...facts, releaseSignatures: [{ release: digestFor('release'), files: [message] }] });
  const signatures = parts.find(({ kind }) => kind === 'signatures');
  assert.deepEqual([signatures?.images, signatures?.blobs, signatures?.outputBytes], [[], [message], 4096]);
});
