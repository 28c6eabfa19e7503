import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { digestOf } from '../../../agent/model/digest.ts';
import { parseMirrorSets, parseSetConfiguration } from '../../../agent/tree/mirror-sets.ts';
import { mirroredImages, mirrorLocations, mirrorSources } from '../../../agent/tree/oc-mirror-images.ts';
import { TOP } from '../../support/cache.ts';
import { thrownBy } from '../../support/thrown.ts';

/** As oc-mirror writes it: a document for each category, with annotations. */
const IDMS = `---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  annotations:
    createdBy: oc-mirror v2
  name: idms-release-0
spec:
  imageDigestMirrors:
  - mirrors:
    - registry.example.com:5000/openshift/release-images
    source: quay.io/openshift-release-dev/ocp-release
---
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata:
  name: idms-operator-0
spec:
  imageDigestMirrors:
  - mirrors:
    - registry.example.com:5000/openshift4
    source: registry.redhat.io/openshift4
`;
const ITMS = `---
apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata:
  name: itms-generic-0
spec:
  imageTagMirrors:
  - mirrors:
    - registry.example.com:5000/ubi9
    source: registry.redhat.io/ubi9
`;
const ICSP = `apiVersion: operator.openshift.io/v1alpha1
kind: ImageContentSourcePolicy
metadata:
  name: icsp
spec:
  repositoryDigestMirrors:
  - mirrors: [registry.example.com:5000/a]
    source: quay.io/a
`;

test('mirror sets are read out of files with several documents, and the older policy too', () => {
  const files = [IDMS, ITMS, ICSP].map((text, index) => ({ text, where: `file ${index}` }));
  assert.deepEqual(parseMirrorSets(files), [
    { source: 'quay.io/openshift-release-dev/ocp-release', mirrors: ['registry.example.com:5000/openshift/release-images'], by: 'digest' },
    { source: 'registry.redhat.io/openshift4', mirrors: ['registry.example.com:5000/openshift4'], by: 'digest' },
    { source: 'registry.redhat.io/ubi9', mirrors: ['registry.example.com:5000/ubi9'], by: 'tag' },
    { source: 'quay.io/a', mirrors: ['registry.example.com:5000/a'], by: 'digest' },
  ]);
});

test('every fault of mirror sets is named with its document and place', () => {
  const bad = IDMS.replace('source: registry.redhat.io/openshift4', 'source: "*.redhat.io"').replace(
    'kind: ImageDigestMirrorSet',
    'kind: Secret',
  );
  assert.deepEqual(
    thrownBy(() => parseMirrorSets([{ text: bad, where: '/m/idms-oc-mirror.yaml' }])),
    {
      code: 'ERR_MIRROR_SETS',
      message: [
        '/m/idms-oc-mirror.yaml cannot be read: 2 faults',
        '/m/idms-oc-mirror.yaml, document 1: kind: Invalid type: Expected ("ImageDigestMirrorSet" | "ImageTagMirrorSet" | "ImageContentSourcePolicy") but received "Secret"',
        '/m/idms-oc-mirror.yaml, document 2: spec.imageDigestMirrors.0.source: is not a registry, namespace or repository',
      ].join('\n'),
      remedy: 'Correct these places, or use the unchanged files of oc-mirror in working-dir/cluster-resources',
    },
  );
});

test('text that is no YAML, and one that grows by aliases, are refused', () => {
  for (const text of ['a: [', 'a: &x [1]\nb: *x\n']) {
    assert.equal(thrownBy(() => parseMirrorSets([{ text, where: 'x' }])).code, 'ERR_MIRROR_SETS', text);
  }
});

const REPOSITORIES = ['openshift/release', 'openshift/release-images', 'openshift4/ose-tool', 'redhat/redhat-operator-index', 'ubi9/ubi'];

test('sources lead to paths of the tree, whatever registry and namespace the mirrors name', () => {
  const cases: readonly (readonly [string, readonly string[], string | undefined])[] = [
    ['registry.redhat.io/openshift4', ['registry.example.com:5000/openshift4'], 'openshift4'],
    ['registry.redhat.io/openshift4', ['registry.example.com:5000/my/space/openshift4'], 'openshift4'],
    [
      'quay.io/openshift-release-dev/ocp-release',
      ['other.example.com', 'registry.example.com/x/openshift/release-images'],
      'openshift/release-images',
    ],
    ['registry.redhat.io/openshift4/ose-tool', ['registry.example.com/openshift4-ose-tool'], 'openshift4/ose-tool'],
    ['registry.redhat.io', ['registry.example.com:5000'], ''],
    ['quay.io/nothing', ['registry.example.com/nothing'], undefined],
  ];
  for (const [source, mirrors, path] of cases) {
    const { sources } = mirrorSources([{ source, mirrors, by: 'digest' }], [], REPOSITORIES);
    assert.equal(sources.find((one) => one.prefix === source)?.path, path, source);
  }
});

test('without mirror sets the release and what the configuration names are known, and the rest is named', () => {
  const text = `apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  platform: {channels: [{name: stable-4.14}]}
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.14
  - catalog: oci:///tmp/catalog
  additionalImages:
  - name: registry.redhat.io/ubi9/ubi:latest
`;
  const configuration = parseSetConfiguration({ text, where: 'isc' });
  assert.deepEqual(mirrorSources([], [configuration], REPOSITORIES), {
    sources: [
      { prefix: 'quay.io/openshift-release-dev/ocp-release', path: 'openshift/release-images' },
      { prefix: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev', path: 'openshift/release' },
      { prefix: 'registry.redhat.io/redhat/redhat-operator-index', path: 'redhat/redhat-operator-index' },
      { prefix: 'registry.redhat.io/ubi9/ubi', path: 'ubi9/ubi' },
    ],
    notices: ['the source of openshift4/ose-tool is unknown: put idms-oc-mirror.yaml and itms-oc-mirror.yaml beside the archives'],
  });
});

test('images carry the names that engines ask for, and an engine gets a mirror for each prefix', () => {
  const sources = [
    { prefix: 'quay.io/openshift-release-dev/ocp-release', path: 'openshift/release-images' },
    { prefix: 'registry.redhat.io/openshift4', path: 'openshift4' },
    { prefix: 'registry.example.com', path: '' },
  ];
  const [digest, tags] = [digestOf('x'), ['v1']];
  const images = ['openshift4/ose-tool', 'openshift4x/other'].map((repository) => ({ repository, digest, tags }));
  assert.deepEqual(
    mirroredImages(images, sources).map((image) => image.sources),
    [['registry.example.com/openshift4/ose-tool', 'registry.redhat.io/openshift4/ose-tool'], ['registry.example.com/openshift4x/other']],
  );
  assert.deepEqual(mirrorLocations(sources, ['127.0.0.1:5000', 'node-0:5000']), [
    {
      prefix: 'quay.io/openshift-release-dev/ocp-release',
      mirrors: ['127.0.0.1:5000/openshift/release-images', 'node-0:5000/openshift/release-images'],
    },
    { prefix: 'registry.redhat.io/openshift4', mirrors: ['127.0.0.1:5000/openshift4', 'node-0:5000/openshift4'] },
    { prefix: 'registry.example.com', mirrors: ['127.0.0.1:5000', 'node-0:5000'] },
  ]);
});

test('mirror sets and configurations of the field are read', (context) => {
  const data = join(TOP, '../shared/data/mirror');
  if (!existsSync(data)) {
    context.diagnostic(`went without ${data}`);
    return;
  }
  const where = join(data, 'imagedigestmirrorset.yaml');
  const entries = parseMirrorSets([{ text: readFileSync(where, 'utf8'), where }]);
  assert.deepEqual(
    entries.map((entry) => entry.source),
    [
      'quay.io/openshift-release-dev/ocp-v4.0-art-dev',
      'quay.io/openshift-release-dev/ocp-release',
      'registry.redhat.io/openshift4',
      'registry.redhat.io/container-native-virtualization',
      'registry.redhat.io/migration-toolkit-virtualization',
    ],
  );
});
