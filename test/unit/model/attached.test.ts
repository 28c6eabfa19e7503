import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  ATTACHED_BLOB_LIMIT_BYTES,
  attachedTag,
  besideImage,
  formatReferrers,
  hasSubject,
  OCI_INDEX_TYPE,
  OCI_MANIFEST_TYPE,
  parseAttached,
  parseReferrers,
  referrersTag,
} from '../../../agent/model/attached.ts';
import { type Digest, digestOf, hexOf } from '../../../agent/model/digest.ts';
import { longList } from '../../support/attaching.ts';
import { thrownBy } from '../../support/thrown.ts';

const [subject, other, config, layer] = ['subject', 'other', 'config', 'layer'].map((word) => digestOf(word));
const remedy = 'Correct the attachment in the registry, or pull without --attachments';
const bytesOf = (json: unknown): Buffer => Buffer.from(JSON.stringify(json));
const of = (digest: Digest | undefined): Digest => digest ?? digestOf('');
const manifest = (more: Record<string, unknown> = {}): Buffer =>
  bytesOf({
    schemaVersion: 2,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: config, size: 2 },
    layers: [layer, layer].map((digest) => ({ mediaType: 'text/spdx', digest, size: 9 })),
    ...more,
  });
const parsed = (bytes: Uint8Array, isNamed = false) => parseAttached(bytes, 'W', { digest: of(subject), isNamed });
const faults = (act: () => unknown): unknown => {
  const { code, message, remedy: next } = thrownBy(act);
  assert.deepEqual([code, next], ['ERR_ATTACHMENT', remedy]);
  return message.split('\n');
};

describe('what lies beside an image', () => {
  it('is told by its tag, and an image that is tagged with its own digest is itself', () => {
    const digest = of(subject);
    assert.deepEqual(besideImage(attachedTag(digest, 'att'), of(other)), { subject, kind: 'att' });
    assert.deepEqual(besideImage(attachedTag(digest, 'sbom'), of(other)), { subject, kind: 'sbom' });
    assert.deepEqual(besideImage(`sha256-${hexOf(digest)}.sig`, of(other)), { subject, kind: 'sig' });
    assert.deepEqual(besideImage(referrersTag(digest), of(other)), { subject, kind: 'list' });
    assert.equal(besideImage(referrersTag(digest), digest), undefined);
    for (const tag of ['latest', 'sha256-12.att', `${referrersTag(digest)}.spdx`, `x${referrersTag(digest)}`])
      assert.equal(besideImage(tag, of(other)), undefined);
  });

  it('is read with its blobs, each once, and is of the type of its config unless it says its own', () => {
    const blobs = [
      { digest: config, sizeBytes: 2, mediaType: 'application/vnd.oci.empty.v1+json' },
      { digest: layer, sizeBytes: 9, mediaType: 'text/spdx' },
    ];
    const plain = { subject: undefined, artifactType: 'application/vnd.oci.empty.v1+json', annotations: {}, blobs, config: blobs[0] };
    assert.deepEqual(parsed(manifest()), plain);
    assert.deepEqual(parsed(manifest({ artifactType: '', subject: null, annotations: null })), plain);
    const named = { artifactType: 'a/b', subject: { digest: subject }, annotations: { a: 'b' }, mediaType: OCI_MANIFEST_TYPE };
    assert.deepEqual(parsed(manifest(named), true), { ...plain, subject, artifactType: 'a/b', annotations: { a: 'b' } });
  });

  it('is refused if it belongs to another manifest, or to none and has to', () => {
    assert.deepEqual(
      faults(() => parsed(manifest({ subject: { digest: other } }))),
      [`W cannot be used: it belongs to ${other}, not to ${subject}`],
    );
    assert.deepEqual(
      faults(() => parsed(manifest(), true)),
      [`W cannot be used: it belongs to no manifest, not to ${subject}`],
    );
  });

  it('is refused with every blob that is too large', () => {
    const size = ATTACHED_BLOB_LIMIT_BYTES + 1;
    const large = { config: { mediaType: 'a', digest: config, size }, layers: [{ mediaType: 'a', digest: layer, size }] };
    const said = [config, layer].map(
      (digest) => `W cannot be used: its blob ${digest} has ${size} bytes, more than the limit of 1073741824`,
    );
    assert.deepEqual(
      faults(() => parsed(manifest(large))),
      ['W cannot be used: 2 faults', ...said],
    );
  });

  const refused: readonly (readonly [string, Buffer, string])[] = [
    ['an index', manifest({ manifests: [] }), 'it is an index, not an image manifest'],
    ['5 MiB', Buffer.alloc(5 * 1024 * 1024), 'it has 5242880 bytes, more than the limit of 4194304 for a manifest'],
    ['no JSON', Buffer.from('{'), 'document: is not JSON'],
    ['a number', bytesOf(1), 'document: Invalid type: Expected Object but received 1'],
    ['nothing', bytesOf(null), 'document: Invalid type: Expected Object but received null'],
    ['another type', manifest({ mediaType: 'x' }), 'mediaType: is not the type of an OCI image manifest'],
    [
      'another digest',
      manifest({ config: { mediaType: 'a', digest: 'sha256:1', size: 1 } }),
      'config.digest: is not sha256:<64 lower-case hex digits>',
    ],
  ];
  for (const [what, bytes, said] of refused)
    it(`is refused if it is ${what}`, () => {
      assert.deepEqual(
        faults(() => parsed(bytes)),
        [`W cannot be used: ${said}`],
      );
    });
});

describe('a list of referrers', () => {
  const list = (...manifests: readonly unknown[]): Buffer => bytesOf({ schemaVersion: 2, manifests });
  const entry = { mediaType: OCI_MANIFEST_TYPE, digest: config, size: 3 };

  it('is read, and written so that it reads the same', () => {
    const found = parseReferrers(
      list(entry, { ...entry, digest: layer, artifactType: 'a/b', annotations: { y: '1', x: '2', z: '3' } }),
      'W',
    );
    assert.deepEqual(found, [
      { digest: config, sizeBytes: 3, artifactType: '', annotations: {} },
      { digest: layer, sizeBytes: 3, artifactType: 'a/b', annotations: { y: '1', x: '2', z: '3' } },
    ]);
    const written = formatReferrers(found);
    assert.equal(formatReferrers(found.toReversed()), written);
    assert.deepEqual(new Set(parseReferrers(Buffer.from(written), 'W').map(({ digest }) => digest)), new Set([config, layer]));
  });

  it('is refused with an image in its place, an index in it, and 1,001 referrers', () => {
    const read = (bytes: Buffer) => faults(() => parseReferrers(bytes, 'W'));
    assert.deepEqual(read(manifest()), ['W cannot be used: it is an image manifest, not a list of referrers']);
    assert.deepEqual(read(list({ ...entry, mediaType: OCI_INDEX_TYPE })), [
      `W cannot be used: it names ${config} of type "${OCI_INDEX_TYPE}", but only image manifests are supported`,
    ]);
    assert.equal(parseReferrers(Buffer.from(longList(1000)), 'W').length, 1000);
    assert.deepEqual(read(Buffer.from(longList(1001))), ['W cannot be used: it names 1001 referrers, more than the limit of 1000']);
  });

  it('takes any bytes without another error than its own', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        for (const act of [() => parseReferrers(Buffer.from(text), 'W'), () => parsed(Buffer.from(text))]) {
          try {
            act();
          } catch (error) {
            assert.match(String(error), /cannot be used/);
          }
        }
      }),
    );
  });
});

describe('a subject', () => {
  it('is seen in a manifest that names one, and nowhere else', () => {
    assert.equal(hasSubject(manifest({ subject: { digest: subject } })), true);
    for (const bytes of [manifest(), manifest({ subject: 1 }), Buffer.from('{'), Buffer.alloc(5 * 1024 * 1024)])
      assert.equal(hasSubject(bytes), false);
  });
});
