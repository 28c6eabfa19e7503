import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeBundle } from '../../../../agent/factory/compose/describe-bundle.ts';
import { bundleImage, releaseOf, stampOf } from '../../../../agent/factory/compose/describe-images.ts';
import { planOsImages } from '../../../../agent/factory/compose/os-images.ts';
import { planBuild } from '../../../../agent/factory/compose/plan.ts';
import { siteReadme } from '../../../../agent/factory/compose/site-readme.ts';
import { buildFacts } from '../../../support/build-facts.ts';
import { digestFor, imageOf, layerFor, named } from '../../../support/source-images.ts';

test('an image is described by its distinct layers', () => {
  const image = imageOf('one', ['base', 'own', 'base']);
  const unpacked = new Map([
    [layerFor('base').digest, 100],
    [layerFor('own').digest, 7],
  ]);
  assert.deepEqual(bundleImage({ reference: 'quay.io/e/one:1', names: ['quay.io/e/one:1'], image }, unpacked), {
    reference: 'quay.io/e/one:1',
    names: ['quay.io/e/one:1'],
    manifestDigest: digestFor('manifest one'),
    compressedBytes: 20,
    unpackedBytes: 107,
  });
});

test('an image of a list is described with the instance that is kept and with its signatures', () => {
  const { top, ...image } = imageOf('one', []);
  const list = { ...top, digest: digestFor('list') };
  const subject = image.manifest;
  const signature = {
    kind: 'sigstore' as const,
    subject,
    manifest: digestFor('attachment'),
    sizeBytes: 1,
    config: digestFor('c'),
    payloads: [],
  };
  const gpg = { kind: 'gpg' as const, subject, files: [digestFor('first'), digestFor('second')] };
  assert.deepEqual(
    bundleImage(
      { reference: 'quay.io/e/one:1', names: ['quay.io/e/one:1'], image: { ...image, top: list }, signatures: [signature, gpg] },
      new Map(),
    ),
    {
      reference: 'quay.io/e/one:1',
      names: ['quay.io/e/one:1'],
      manifestDigest: digestFor('list'),
      instanceDigest: digestFor('manifest one'),
      signatures: [
        { kind: 'sigstore', subject, manifest: digestFor('attachment') },
        { kind: 'gpg', subject, file: digestFor('first') },
        { kind: 'gpg', subject, file: digestFor('second') },
      ],
      compressedBytes: 0,
      unpackedBytes: 0,
    },
  );
});

test('what the list of an image names and the input lacks is recorded with its platform', () => {
  const absent = [{ digest: digestFor('arm'), platform: 'linux/arm64/v8' }];
  const described = bundleImage({ reference: 'quay.io/e/one:1', names: [], image: imageOf('one', [], { absent }) }, new Map());
  assert.deepEqual(described.absent, absent);
});

test('an image of a release keeps the names of its components', () => {
  const named = { reference: 'quay.io/e/one:1', names: [], image: imageOf('one', []) };
  assert.deepEqual(bundleImage({ ...named, components: ['etcd'] }, new Map()).components, ['etcd']);
  assert.equal('components' in bundleImage(named, new Map()), false);
});

test('layers whose unpacked size nobody has counted count for nothing', () => {
  const image = imageOf('one', ['base']);
  assert.equal(bundleImage({ reference: 'quay.io/e/one:1', names: [], image }, new Map()).unpackedBytes, 0);
});

test('the release is told by the label of its image, else by its tag, else not at all', () => {
  const labelled = named(`quay.io/e/any@sha256:${'a'.repeat(64)}`, [], { labels: { 'io.openshift.release': '4.15.1' } });
  const cases = [
    [[named('quay.io/e/tool:1', []), labelled], '4.15.1'],
    [[named('quay.io/openshift-release-dev/ocp-release:4.14.0-x86_64', [])], '4.14.0'],
    [[named('registry.example.com:5000/ocp/ocp-release:4.16.0-rc.1-aarch64', [])], '4.16.0-rc.1'],
    [[named('quay.io/e/tool:4.14.0-x86_64', []), named(`quay.io/openshift-release-dev/ocp-release@sha256:${'b'.repeat(64)}`, [])], ''],
    [[], ''],
  ] as const;
  for (const [images, expected] of cases) assert.equal(releaseOf(images), expected);
});

test('what is dated is dated by the environment, else by the newest image, never by the clock', () => {
  const old = named('quay.io/e/old:1', [], { created: '2020-01-01T00:00:00Z' });
  const young = named('quay.io/e/young:1', [], { created: '2024-06-01T00:00:00.5Z' });
  const wrong = named('quay.io/e/wrong:1', [], { created: 'yesterday' });
  const { created: _, ...undated } = named('quay.io/e/undated:1', []).image;
  const none = { reference: 'quay.io/e/undated:1', names: ['quay.io/e/undated:1'], image: undated };
  const early = named('quay.io/e/early:1', [], { created: '0001-01-01T00:00:00Z' });
  assert.equal(stampOf([old, young], 12), 12);
  assert.equal(stampOf([old, young, wrong, early, none], undefined), Date.UTC(2024, 5, 1) / 1000);
  assert.equal(stampOf([wrong, early], undefined), 0);
});

test('a bundle is described with its stages and payloads, and its README says the same to a person', () => {
  const release = named('quay.io/openshift-release-dev/ocp-release:4.14.0-x86_64', ['base']);
  const facts = buildFacts({
    payloads: ['store', 'oci', 'archives', 'registry'],
    stages: [{ stage: 'installed', images: [release] }],
    agents: [{ from: '/a', path: 'prestage-agent', sizeBytes: 1, modifiedMs: 1 }],
  });
  const parts = planBuild(facts);
  const pieces = { sizeBytes: 16, sha256: ['d'.repeat(64), 'e'.repeat(64)] };
  const packed = { path: 'store/installed.squashfs', sizeBytes: 17, modifiedMs: 1, sha256: 'f'.repeat(64), pieces };
  const bundle = describeBundle(facts, {
    parts,
    made: {
      'store-installed': { key: '', files: [packed], rootHash: 'c'.repeat(64), registryImage: 'quay.io/e/registry:1' },
      registry: { key: '', files: [], registryImage: 'quay.io/e/registry:2' },
    },
    unpackedBytes: new Map([[layerFor('base').digest, 4096]]),
    createdAt: new Date(1_700_000_000_000),
    createdBy: { name: 'prestage-agent', version: '1.2.3' },
  });
  assert.deepEqual(bundle, {
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '4.14.0',
    architecture: 'amd64',
    createdAt: '2023-11-14T22:13:20Z',
    createdBy: { name: 'prestage-agent', version: '1.2.3' },
    stages: {
      installed: {
        images: [
          {
            reference: release.reference,
            names: [release.reference],
            manifestDigest: release.image.top.digest,
            compressedBytes: 10,
            unpackedBytes: 4096,
          },
        ],
      },
    },
    payloads: [
      {
        kind: 'store',
        stage: 'installed',
        image: 'store/installed.squashfs',
        compression: { algorithm: 'zstd', level: 9 },
        pieces,
        verity: { hashTree: 'store/installed.verity', rootHash: 'c'.repeat(64) },
        mirror: 'store/installed.mirror',
        registryImage: 'quay.io/e/registry:1',
      },
      { kind: 'oci', path: 'oci' },
      { kind: 'archives', path: 'archives' },
      { kind: 'registry', path: 'registry', registryImage: 'quay.io/e/registry:2' },
    ],
  });
  const releaseSignatures = [{ release: digestFor('release'), files: [digestFor('message')] }];
  const ofRelease = describeBundle(
    { ...facts, releaseSignatures },
    { parts: [], made: {}, unpackedBytes: new Map(), createdAt: new Date(0), createdBy: bundle.createdBy },
  );
  assert.deepEqual(ofRelease.releaseSignatures, releaseSignatures);
  const unmade = describeBundle(facts, { parts, made: {}, unpackedBytes: new Map(), createdAt: new Date(0), createdBy: bundle.createdBy });
  assert.deepEqual(
    unmade.payloads.map((payload) => payload.kind),
    ['oci', 'archives', 'registry'],
  );
  const system = named('quay.io/e/system:1', ['base'], { labels: { 'containers.bootc': '1' } });
  const withSystem = {
    ...facts,
    stages: [{ stage: 'installed', images: [release, system] }],
    osImages: planOsImages([release, system], 'store'),
  } as const;
  const store = { key: '', files: [packed], rootHash: 'c'.repeat(64) };
  const options = { parts: planBuild(withSystem), made: { 'store-installed': store }, unpackedBytes: new Map(), createdAt: new Date(0) };
  const [first] = describeBundle(withSystem, { ...options, createdBy: bundle.createdBy }).payloads;
  assert.deepEqual(first, {
    kind: 'store',
    stage: 'installed',
    image: 'store/installed.squashfs',
    compression: { algorithm: 'zstd', level: 9 },
    pieces,
    verity: { hashTree: 'store/installed.verity', rootHash: 'c'.repeat(64) },
    mirror: 'store/installed.mirror',
    unmirrored: ['quay.io/e/system:1'],
  });
  const text = siteReadme(bundle, ['prestage-agent']);
  for (const line of [
    'Release 4.14.0, amd64, made by prestage-agent 1.2.3.',
    '  installed  1 images, 10 B compressed',
    '  prestage-agent  the program that the node runs',
    '  oci/  all images as one OCI image layout',
    '  archives/  one .tgz per image, and the image lists',
    '  registry/  all images as the storage of a registry',
    '  store/installed.squashfs  all images of the stage installed, unpacked, to be mounted; with store/installed.verity and store/installed.mirror/',
  ]) {
    assert.ok(text.split('\n').includes(line), line);
  }
  assert.match(siteReadme({ ...bundle, release: '' }, []), /^Release not known, amd64/m);
});
