import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeBundle } from '../../../../agent/factory/compose/describe-bundle.ts';
import { ociTree } from '../../../../agent/factory/compose/oci-tree.ts';
import { type BuildFacts, type PayloadKind, planBuild } from '../../../../agent/factory/compose/plan.ts';
import { attachedFinder, attachedTreeImages, type SourceAttached } from '../../../../agent/factory/compose/source-attached.ts';
import { attachedTag, OCI_INDEX_TYPE, OCI_MANIFEST_TYPE, referrersTag } from '../../../../agent/model/attached.ts';
import { hexOf } from '../../../../agent/model/digest.ts';
import { parseOciIndex } from '../../../../agent/model/oci-layout.ts';
import { treeBlobPath } from '../../../../agent/model/registry-path.ts';
import { registryTree } from '../../../../agent/tree/registry-tree.ts';
import { buildFacts } from '../../../support/build-facts.ts';
import { digestFor, named } from '../../../support/source-images.ts';

const tool = named('quay.io/e/tool:1', ['base']);
const subject = tool.image.manifest;
const blobs = ['config', 'content'].map((word) => ({ digest: digestFor(word), sizeBytes: 10, mediaType: 'a/b' }));
const own = { subject, artifactType: 'a/b', sizeBytes: 100, config: digestFor('config'), blobs };
const attestation: SourceAttached = {
  ...own,
  kind: 'att',
  tag: attachedTag(subject, 'att'),
  manifest: digestFor('att'),
  top: { digest: digestFor('att'), sizeBytes: 100, mediaType: OCI_MANIFEST_TYPE },
};
const referrer: SourceAttached = {
  ...own,
  kind: 'referrer',
  tag: referrersTag(subject),
  manifest: digestFor('referrer'),
  top: { digest: digestFor('list'), sizeBytes: 50, mediaType: OCI_INDEX_TYPE },
};
const image = { ...tool, attached: [attestation, referrer] };
const factsOf = (payloads: readonly PayloadKind[], images: readonly (typeof tool)[], canLink = true): BuildFacts =>
  buildFacts({ payloads, stages: [{ stage: 'installed', images }], canLink });

test('attachments are found by their tags, those of the repository first, and a digest as a tag is an image', () => {
  const entryOf = (reference: string, word: string, mediaType = OCI_MANIFEST_TYPE) => ({
    reference,
    digest: digestFor(word),
    sizeBytes: 1,
    mediaType,
  });
  const [att, other] = [entryOf(`quay.io/e/tool:${attestation.tag}`, 'att'), entryOf(`quay.io/e/other:${attestation.tag}`, 'other')];
  const list = entryOf(`quay.io/e/other:${referrer.tag}`, 'list', OCI_INDEX_TYPE);
  const find = attachedFinder([
    entryOf('quay.io/e/tool:1', 'image'),
    entryOf('not a reference', 'x'),
    entryOf(`quay.io/e/tool@${digestFor('x')}`, 'x'),
    entryOf(`quay.io/e/tool:sha256-${hexOf(subject)}.sig`, 'signature'),
    entryOf(`quay.io/e/third:${referrer.tag}`, 'an image'),
    other,
    att,
    list,
  ]);
  assert.deepEqual(find(['quay.io/e/tool'], subject), [
    { kind: 'att', tag: attestation.tag, entry: att, repository: 'quay.io/e/tool' },
    { kind: 'referrer', tag: referrer.tag, entry: list, repository: 'quay.io/e/other' },
  ]);
  assert.equal(find(['quay.io/e/nowhere'], subject)[0]?.entry, other);
  assert.deepEqual(find(['quay.io/e/tool'], digestFor('another')), []);
});

test('a registry serves attachments under their tags, and referrers by digest and by the tag of their list', () => {
  const files = new Map(
    registryTree(attachedTreeImages([image, tool]), 'all').map((file) => [file.path, 'text' in file ? file.text : 'blob']),
  );
  const home = 'docker/registry/v2/repositories/quay.io/e/tool/_manifests';
  assert.deepEqual(
    [attestation.tag, referrer.tag].map((tag) => files.get(`${home}/tags/${tag}/current/link`)),
    [attestation.manifest, referrer.top.digest],
  );
  for (const digest of [attestation.manifest, referrer.manifest, referrer.top.digest])
    assert.equal(files.get(`${home}/revisions/sha256/${hexOf(digest)}/link`), digest);
  for (const { digest } of blobs) assert.equal(files.get(treeBlobPath(digest)), 'blob');
});

test('an image that goes by the tag of a list keeps it', () => {
  const names = [...tool.names, `quay.io/e/tool:${referrer.tag}`];
  assert.deepEqual(
    attachedTreeImages([{ ...image, names }]).map((one) => one.names),
    [[`quay.io/e/tool:${attestation.tag}`], []],
  );
});

test('a layout has attachments with their blobs, named behind the images', () => {
  const files = ociTree([image]);
  const index = files.find(({ path }) => path === 'index.json');
  assert.deepEqual(
    parseOciIndex(index !== undefined && 'text' in index ? index.text : '', 'index.json').entries.map(({ reference, digest }) => [
      reference,
      digest,
    ]),
    [
      ['quay.io/e/tool:1', subject],
      [`quay.io/e/tool:${attestation.tag}`, attestation.manifest],
      [`quay.io/e/tool:${referrer.tag}`, referrer.top.digest],
    ],
  );
  const paths = new Set(files.map(({ path }) => path));
  for (const digest of [attestation.manifest, referrer.manifest, referrer.top.digest, ...blobs.map((blob) => blob.digest)])
    assert.ok(paths.has(`blobs/sha256/${hexOf(digest)}`));
});

test('attachments decide the payloads that have them, and no store and no archives', () => {
  const keysOf = (images: readonly (typeof tool)[]) =>
    new Map(planBuild(factsOf(['store', 'oci', 'archives', 'registry'], images)).map(({ id, key }) => [id, key]));
  const [without, having] = [keysOf([tool]), keysOf([image])];
  assert.deepEqual(
    [...having].flatMap(([id, key]) => (without.get(id) === key ? [] : [id])),
    ['oci', 'registry'],
  );
  const bytesOf = (images: readonly (typeof tool)[]) => planBuild(factsOf(['oci'], images, false))[0]?.outputBytes ?? 0;
  assert.equal(bytesOf([image]) - bytesOf([tool]), 2 * 100 + 50 + 2 * 10);
});

test('a bundle names attachments if a payload has a place for them', () => {
  const attachmentsOf = (payloads: readonly PayloadKind[]) => {
    const facts = factsOf(payloads, [image]);
    const made = {
      parts: planBuild(facts),
      made: {},
      unpackedBytes: new Map(),
      createdAt: new Date(0),
      createdBy: { name: 'a', version: '1' },
    };
    return describeBundle(facts, made).stages.installed?.images[0]?.attachments;
  };
  const expected = [
    { kind: 'att', subject, manifest: attestation.manifest },
    { kind: 'referrer', subject, manifest: referrer.manifest, artifactType: 'a/b' },
  ];
  assert.deepEqual([attachmentsOf(['oci']), attachmentsOf(['registry', 'store'])], [expected, expected]);
  assert.deepEqual([attachmentsOf(['store']), attachmentsOf(['archives'])], [undefined, undefined]);
});
