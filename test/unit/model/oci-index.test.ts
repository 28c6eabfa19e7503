import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../../agent/model/digest.ts';
import { errorRecord, PrestageError } from '../../../agent/model/errors.ts';
import { formatOciIndex, OCI_INDEX_LIMIT_BYTES, type OciEntry, parseOciIndex } from '../../../agent/model/oci-layout.ts';
import { thrownBy } from '../../support/thrown.ts';

const [one, two] = [digestOf('one'), digestOf('two')];
const OCI = 'application/vnd.oci.image.manifest.v1+json';
const DOCKER = 'application/vnd.docker.distribution.manifest.list.v2+json';
const NAME = 'org.opencontainers.image.ref.name';

const index = (...manifests: readonly unknown[]): string => JSON.stringify({ schemaVersion: 2, manifests });
const entry = (digest: string, name?: string) => ({
  mediaType: OCI,
  digest,
  size: 7,
  ...(name !== undefined && { annotations: { [NAME]: name } }),
});

describe('the index of an OCI image layout', () => {
  it('is refused where it is larger than any real one', () => {
    const { code, message } = thrownBy(() => parseOciIndex(' '.repeat(OCI_INDEX_LIMIT_BYTES + 1), 'index.json'));
    assert.deepEqual(
      [code, message.endsWith(`has ${OCI_INDEX_LIMIT_BYTES + 1} characters, more than ${OCI_INDEX_LIMIT_BYTES}`)],
      ['ERR_LAYOUT', true],
    );
  });

  it('gives full references, digests, sizes and media types in its order', () => {
    const text = index({ ...entry(two, 'quay.io/a/b:v1'), mediaType: DOCKER }, entry(one, `quay.io/a/c@${one}`));
    assert.deepEqual(parseOciIndex(text, 'index.json'), {
      entries: [
        { reference: 'quay.io/a/b:v1', digest: two, sizeBytes: 7, mediaType: DOCKER, place: 'manifests.0' },
        { reference: `quay.io/a/c@${one}`, digest: one, sizeBytes: 7, mediaType: OCI, place: 'manifests.1' },
      ],
      skipped: [],
    });
  });

  it('gives the full reference of containerd where the other name is only a tag', () => {
    const text = index({ ...entry(one), annotations: { [NAME]: 'v1', 'io.containerd.image.name': 'quay.io/a/b:v1' } });
    assert.equal(parseOciIndex(text, 'index.json').entries[0]?.reference, 'quay.io/a/b:v1');
  });

  it('keeps an entry without a name or with one that cannot be a name, and gives one that comes twice once', () => {
    const bad = [
      entry(one, 'a\u001b[2Jb'),
      entry(one, '../../x\0'),
      { ...entry(one), annotations: { [NAME]: 7 } },
      { ...entry(one), annotations: 7 },
    ];
    const text = index(entry(one), ...bad, entry(two, 'x:1'), entry(two, 'x:1'), { ...entry(two, 'y'), annotations: null });
    assert.deepEqual(
      parseOciIndex(text, 'index.json').entries.map(({ reference, digest }) => [reference, digest]),
      [
        ['', one],
        ['x:1', two],
        ['', two],
      ],
    );
  });

  it('passes over entries that cannot be read, each with its place and every fault', () => {
    const text = index({ ...entry('sha256:12', 'x y'), size: -1 }, entry(one, 'x:1'), { digest: one }, 7);
    const { entries, skipped } = parseOciIndex(text, 'L/index.json');
    assert.deepEqual(
      entries.map(({ reference, place }) => [reference, place]),
      [['x:1', 'manifests.1']],
    );
    assert.deepEqual(skipped, [
      {
        place: 'manifests.0',
        reason: 'digest: is not sha256:<64 lower-case hex digits>, size: Invalid value: Expected >=0 but received -1',
      },
      { place: 'manifests.2', reason: 'mediaType: is missing, size: is missing' },
      { place: 'manifests.3', reason: 'document: Invalid type: Expected Object but received 7' },
    ]);
  });

  for (const [what, text] of [
    ['is empty', ''],
    ['is a list', '[]'],
    ['is another document', '{"schemaVersion":1,"manifests":[]}'],
  ] as const) {
    it(`is refused where it ${what}`, () => {
      assert.equal(thrownBy(() => parseOciIndex(text, 'index.json')).code, 'ERR_LAYOUT');
    });
  }

  it('reads back what was written, whatever the entries', () => {
    const entries = fc.uniqueArray(
      fc.record<OciEntry>(
        {
          reference: fc.stringMatching(/^[a-z0-9._:@/-]{1,40}$/),
          digest: fc.string().map(digestOf),
          sizeBytes: fc.nat(),
          mediaType: fc.constantFrom(OCI, DOCKER),
        },
        { noNullPrototype: true },
      ),
      { selector: ({ reference }) => reference },
    );
    fc.assert(
      fc.property(entries, (all) =>
        assert.deepEqual(parseOciIndex(formatOciIndex(all), 'index.json'), {
          entries: all.map((one, place) => ({ ...one, place: `manifests.${place}` })),
          skipped: [],
        }),
      ),
    );
  });

  it('ends every other text in ERR_LAYOUT', () => {
    const texts = fc.oneof(
      fc.string(),
      fc.json(),
      fc.anything().map((value) => JSON.stringify({ schemaVersion: 2, manifests: value }) ?? ''),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          parseOciIndex(text, 'index.json');
        } catch (error) {
          assert.ok(error instanceof PrestageError && errorRecord(error).code === 'ERR_LAYOUT', String(error));
        }
      }),
    );
  });
});
