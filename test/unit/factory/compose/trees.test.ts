import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ociTree } from '../../../../agent/factory/compose/oci-tree.ts';
import { hexOf } from '../../../../agent/model/digest.ts';
import { registryRepository } from '../../../../agent/model/registry-path.ts';
import { registryTree } from '../../../../agent/tree/registry-tree.ts';
import { digestFor, imageOf } from '../../../support/source-images.ts';

const list = digestFor('list');
const image = imageOf('one', ['base', 'one'], {
  top: { digest: list, sizeBytes: 700, mediaType: 'application/vnd.oci.image.index.v1+json' },
});
const one = { reference: 'quay.io/e/one:v1', names: ['quay.io/e/one:v1', `registry.example.com:5000/e/one@${list}`], image };
const [base, own] = image.layers.map((layer) => layer.digest);

test('a repository is named for the host that it comes from, in the characters that a repository can have', () => {
  const cases = [
    ['quay.io', 'quay.io/e/one'],
    ['registry.example.com:5000', 'registry.example.com_5000/e/one'],
    ['Registry.Example.COM', 'registry.example.com/e/one'],
  ] as const;
  for (const [registry, expected] of cases) assert.equal(registryRepository({ registry, repository: 'e/one' }), expected);
});

test("a registry's tree has each blob once, and links for each name of an image", () => {
  const root = 'docker/registry/v2';
  const quay = `${root}/repositories/quay.io/e/one`;
  const other = `${root}/repositories/registry.example.com_5000/e/one`;
  const all = [list, image.manifest, image.config, base ?? list, own ?? list];
  const links = (repository: string): readonly (readonly [string, string])[] => [
    ...[image.config, base ?? list, own ?? list].map((digest) => [`${repository}/_layers/sha256/${hexOf(digest)}/link`, digest] as const),
    ...[list, image.manifest].map((digest) => [`${repository}/_manifests/revisions/sha256/${hexOf(digest)}/link`, digest] as const),
  ];
  const expected: readonly (readonly [string, string])[] = [
    ...all.map((digest) => [`${root}/blobs/sha256/${hexOf(digest).slice(0, 2)}/${hexOf(digest)}/data`, `blob ${digest}`] as const),
    ...links(quay),
    [`${quay}/_manifests/tags/v1/current/link`, list],
    [`${quay}/_manifests/tags/v1/index/sha256/${hexOf(list)}/link`, list],
    ...links(other),
  ];
  assert.deepEqual(
    new Map(registryTree([one, one], 'all').map((file) => [file.path, 'text' in file ? file.text : `blob ${file.blob}`])),
    new Map(expected),
  );
});

test('a metadata tree leaves the layers out and nothing else', () => {
  const layers = new Set([base, own]);
  const without = registryTree([one], 'all').filter((file) => ![...layers].some((digest) => file.path.includes(hexOf(digest ?? list))));
  assert.deepEqual(registryTree([one], 'metadata'), without);
});

test('a layout names an image by each of its names, and has each blob once', () => {
  const tree = ociTree([one, { ...one, names: ['quay.io/e/one:v1', 'quay.io/e/one:v2'] }]);
  const index = tree.find((file) => file.path === 'index.json');
  assert.deepEqual(
    tree.map((file) => file.path),
    [
      ...[list, image.manifest, image.config, base ?? list, own ?? list].toSorted().map((digest) => `blobs/sha256/${hexOf(digest)}`),
      'index.json',
      'oci-layout',
    ],
  );
  const manifests = ['quay.io/e/one:v1', `registry.example.com:5000/e/one@${list}`, 'quay.io/e/one:v2'].map((name) => ({
    mediaType: 'application/vnd.oci.image.index.v1+json',
    digest: list,
    size: 700,
    annotations: { 'org.opencontainers.image.ref.name': name },
  }));
  assert.deepEqual(JSON.parse(index !== undefined && 'text' in index ? index.text : ''), {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.index.v1+json',
    manifests,
  });
});
