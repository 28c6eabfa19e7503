import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import {
  type Bundle,
  type BundleFile,
  bundleImages,
  formatBundle,
  isInnerPath,
  LEAST_PIECE_BYTES,
  parseBundle,
  type StorePieces,
  signaturePath,
} from '../../../agent/model/bundle.ts';
import { hexOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { digests, references, textOfReference } from '../../support/arbitraries.ts';
import { thrownBy } from '../../support/thrown.ts';

const schema: object = JSON.parse(await readFile(new URL('../../../docs/bundle.schema.json', import.meta.url), 'utf8'));
const validate = new Ajv({ allErrors: true, strictSchema: true }).compile(schema);

const sha256 = digests.map((digest) => digest.slice('sha256:'.length));
const bytes = fc.maxSafeNat();
/** Of one file alone, so that every bundle can have it. */
const SIGNATURE = `sha256:${'5'.repeat(64)}` as const;
const signatures = fc.array(
  fc
    .record({ kind: fc.constantFrom('sigstore', 'gpg'), subject: digests })
    .map(({ kind, subject }) =>
      kind === 'gpg' ? { kind: 'gpg' as const, subject, file: SIGNATURE } : { kind: 'sigstore' as const, subject, manifest: SIGNATURE },
    ),
  { maxLength: 3 },
);
const attachments = fc.array(
  fc
    .record({ kind: fc.constantFrom('att', 'sbom', 'referrer'), subject: digests })
    .map(({ kind, subject }) =>
      kind === 'referrer'
        ? { kind: 'referrer' as const, subject, manifest: SIGNATURE, artifactType: 'a/b' }
        : { kind: kind === 'att' ? ('att' as const) : ('sbom' as const), subject, manifest: SIGNATURE },
    ),
  { maxLength: 3 },
);
const absent = fc.array(fc.record({ digest: digests, platform: fc.constantFrom('linux/arm64', '') }, { noNullPrototype: true }), {
  maxLength: 2,
});
const image = fc
  .record(
    {
      reference: references.map(textOfReference),
      manifestDigest: digests,
      instanceDigest: digests,
      signatures,
      attachments,
      absent,
      components: fc.array(fc.constantFrom('etcd', 'cli'), { minLength: 1, maxLength: 2 }),
      compressedBytes: bytes,
      unpackedBytes: bytes,
    },
    { requiredKeys: ['reference', 'manifestDigest', 'compressedBytes', 'unpackedBytes'], noNullPrototype: true },
  )
  .map((one) => ({ ...one, names: [one.reference] }));
const releaseSignatures = fc.array(
  digests.map((release) => ({ release, files: [SIGNATURE] })),
  { maxLength: 2 },
);
const stage = fc.record({ images: fc.array(image, { maxLength: 3 }) }, { noNullPrototype: true });
const plainKinds = fc.uniqueArray(fc.constantFrom('archives', 'oci', 'registry'), { maxLength: 3 });
const stores = fc.uniqueArray(fc.constantFrom('discovery', 'installed'), { maxLength: 2 });

/** Bundles that hang together: every payload has its files, in order. */
const bundles: fc.Arbitrary<Bundle> = fc
  .record({
    release: fc.constantFrom('', '4.14.0'),
    architecture: fc.constantFrom('amd64', 'arm64'),
    stages: fc.record({ discovery: stage, installed: stage }, { requiredKeys: [], noNullPrototype: true }),
    kinds: plainKinds,
    stores,
    releaseSignatures: fc.option(releaseSignatures, { nil: undefined }),
    registryImage: fc.option(references.map(textOfReference), { nil: undefined }),
    hasOsTree: fc.boolean(),
    sha256,
    sizeBytes: bytes,
    pieces: fc.nat({ max: 3 }),
  })
  .map(
    ({
      pieces,
      kinds,
      stores: ofStages,
      registryImage,
      hasOsTree,
      releaseSignatures: ofReleases,
      sha256: hash,
      sizeBytes,
      ...rest
    }): Bundle => {
      const payloads: Bundle['payloads'] = [
        ...kinds.map((kind) =>
          kind === 'registry' && registryImage !== undefined ? { kind, path: kind, registryImage } : { kind, path: kind },
        ),
        ...ofStages.map((one) => ({
          kind: 'store' as const,
          stage: one,
          image: `store/${one}.squashfs`,
          ...(pieces > 0 && { pieces: piecesOf(sizeBytes, pieces, hash) }),
          verity: { hashTree: `store/${one}.verity`, rootHash: hash },
          mirror: `store/${one}.mirror`,
          ...(hasOsTree && { osTree: `store/${one}.os`, unstored: [] }),
          ...(registryImage !== undefined && { registryImage }),
        })),
      ];
      const paths = payloads.flatMap((one) =>
        one.kind === 'store'
          ? [
              one.image,
              one.verity.hashTree,
              `${one.mirror}/docker/registry/v2/blobs`,
              ...(one.osTree === undefined ? [] : [`${one.osTree}/docker`]),
            ]
          : [`${one.path}/file`],
      );
      return {
        apiVersion: 'prestage-agent/v1',
        kind: 'Bundle',
        createdAt: '2024-05-06T07:08:09Z',
        createdBy: { name: 'prestage-agent', version: '0.1.0' },
        ...rest,
        payloads,
        ...(ofReleases !== undefined && { releaseSignatures: ofReleases }),
        files: [...paths, signaturePath(SIGNATURE)].toSorted().map((path) => fileOf(path, sizeBytes, hash)),
      };
    },
  );

function fileOf(path: string, sizeBytes: number, hash: string): BundleFile {
  return { path, sizeBytes, sha256: path === signaturePath(SIGNATURE) ? hexOf(SIGNATURE) : hash };
}

/** About so many pieces of an image. */
function piecesOf(imageBytes: number, count: number, sha256: string): StorePieces {
  const sizeBytes = Math.max(LEAST_PIECE_BYTES, Math.ceil(imageBytes / count));
  return { sizeBytes, sha256: Array.from({ length: Math.ceil(imageBytes / sizeBytes) }, () => sha256) };
}

test('what is written as a manifest follows the schema, is read as it was written, and is written the same again', () => {
  fc.assert(
    fc.property(bundles, (bundle) => {
      const text = formatBundle(bundle);
      assert.ok(validate(JSON.parse(text)), JSON.stringify(validate.errors));
      const read = parseBundle(text, 'prestage.json');
      assert.deepEqual(read, bundle);
      assert.equal(formatBundle(read), text);
    }),
  );
});

test('schema and reader refuse the same: a field that is missing, of another kind, or not what it should be', () => {
  const wrong = fc.constantFrom<unknown>(undefined, null, '', 'x', -1, 1.5, {}, [], '../x', '/x', 'a//b', true);
  fc.assert(
    fc.property(bundles, fc.nat(), wrong, (bundle, nth, value) => {
      const document: unknown = JSON.parse(formatBundle(bundle));
      const places = placesOf(document);
      const place = places[nth % places.length] ?? [];
      const changed = JSON.stringify(replaced(document, place, value));
      const bySchema = validate(JSON.parse(changed));
      assert.equal(bySchema, isReadable(changed), `${place.join('.')} = ${JSON.stringify(value)}`);
    }),
    { numRuns: 2000 },
  );
});

test('schema and reader agree on paths', () => {
  const parts = fc.constantFrom('', '.', '..', '...', 'a', '.a', 'a.', 'b b', '\u0000', 'a\nb', '\u007f', 'ö');
  const bundle = { payloads: [], stages: {}, release: '', architecture: 'amd64', createdAt: '2024-05-06T07:08:09Z' };
  fc.assert(
    fc.property(
      fc.array(parts, { maxLength: 4 }).map((all) => all.join('/')),
      (path) => {
        const files = [{ path, sizeBytes: 1, sha256: 'a'.repeat(64) }];
        const document = { apiVersion: 'prestage-agent/v1', kind: 'Bundle', ...bundle, createdBy: { name: 'n', version: 'v' }, files };
        assert.equal(validate(document), isInnerPath(path));
      },
    ),
  );
});

test('whatever text is given as a manifest, it is read or refused with the one code', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), fc.constantFrom('[]', '{"files":[{}]}', '\ufeff{}')), (text) => {
      try {
        parseBundle(text, 'prestage.json');
      } catch (error) {
        assert.equal(errorRecord(error).code, 'ERR_BUNDLE');
      }
    }),
  );
});

test('pieces that are not exactly the image are refused, whatever their number', () => {
  const size = fc.integer({ min: 1, max: 64 * LEAST_PIECE_BYTES });
  fc.assert(
    fc.property(size, fc.integer({ min: 1, max: 5 }), fc.integer({ min: -2, max: 2 }), (sizeBytes, count, more) => {
      const pieces = piecesOf(sizeBytes, count, 'a'.repeat(64));
      const wrong = { ...pieces, sha256: Array.from({ length: Math.max(0, pieces.sha256.length + more) }, () => 'a'.repeat(64)) };
      const isRefused = wrong.sha256.length !== pieces.sha256.length;
      const read = (): Bundle => parseBundle(JSON.stringify(storeBundle(sizeBytes, wrong)), 'B');
      if (!isRefused) return assert.deepEqual(read(), storeBundle(sizeBytes, wrong));
      assert.deepEqual(thrownBy(read), {
        code: 'ERR_BUNDLE',
        message: `payloads: "i" has ${sizeBytes} bytes, but ${wrong.sha256.length} pieces of ${pieces.sizeBytes} bytes`,
        remedy: 'Build the bundle again at the factory, or write it to the partition again',
      });
    }),
  );
});

/** The least bundle with a store image of some size. */
function storeBundle(sizeBytes: number, pieces: StorePieces): Bundle {
  const sha256 = 'a'.repeat(64);
  return {
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '',
    architecture: 'amd64',
    createdAt: '2024-05-06T07:08:09Z',
    createdBy: { name: 'prestage-agent', version: '0.1.0' },
    stages: {},
    payloads: [{ kind: 'store', stage: 'installed', image: 'i', pieces, verity: { hashTree: 'h', rootHash: sha256 }, mirror: 'm' }],
    files: ['h', 'i', 'm'].map((path) => ({ path, sizeBytes, sha256 })),
  };
}

function isReadable(text: string): boolean {
  try {
    parseBundle(text, 'prestage.json');
    return true;
  } catch (error) {
    // What no schema can say: these hang together across the document.
    return /is not among the files|is repeated or out of order|cannot list itself|pieces of/.test(errorRecord(error).message);
  }
}

/** Paths to all values of a document. */
function placesOf(value: unknown, at: readonly string[] = []): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null) return [at];
  return [...(at.length > 0 ? [at] : []), ...Object.entries(value).flatMap(([key, inner]) => placesOf(inner, [...at, key]))];
}

/** The document with another value at a place; undefined takes it away, as JSON has none. */
function replaced(document: unknown, [key, ...rest]: readonly string[], value: unknown): unknown {
  if (key === undefined) return value;
  if (Array.isArray(document))
    return document.flatMap((inner: unknown, index) => (String(index) === key ? kept(replaced(inner, rest, value)) : [inner]));
  if (typeof document !== 'object' || document === null) return document;
  return Object.fromEntries(
    Object.entries(document).map(([name, inner]: [string, unknown]) => [name, name === key ? replaced(inner, rest, value) : inner]),
  );
}

function kept(value: unknown): readonly unknown[] {
  return value === undefined ? [] : [value];
}

test('the images of a stage that a bundle lacks are refused with the stages that it has', () => {
  const bundle = (stages: Bundle['stages']): Bundle => ({
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '',
    architecture: 'amd64',
    createdAt: '2024-05-06T07:08:09Z',
    createdBy: { name: 'prestage-agent', version: '0.1.0' },
    stages,
    payloads: [],
    files: [],
  });
  const images: readonly [] = [];
  assert.deepEqual(bundleImages(bundle({ discovery: { images: [...images] } }), 'discovery', 'B'), images);
  const refusal = (stages: Bundle['stages']) => thrownBy(() => bundleImages(bundle(stages), 'installed', 'B')).message;
  assert.deepEqual(
    [refusal({ discovery: { images: [] } }), refusal({})],
    ['B has no stage "installed"; its stages: discovery', 'B has no stage "installed"; its stages: none'],
  );
});

test('a signature whose file the bundle lacks, or has under another digest, is a fault', () => {
  const digest = `sha256:${'7'.repeat(64)}` as const;
  const bundle: Bundle = {
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '',
    architecture: 'amd64',
    createdAt: '2024-05-06T07:08:09Z',
    createdBy: { name: 'prestage-agent', version: '0.1.0' },
    stages: {
      installed: {
        images: [
          {
            reference: 'quay.io/a/b:1',
            names: ['quay.io/a/b:1'],
            manifestDigest: digest,
            signatures: [{ kind: 'sigstore', subject: digest, manifest: digest }],
            compressedBytes: 1,
            unpackedBytes: 1,
          },
        ],
      },
    },
    payloads: [],
    files: [{ path: signaturePath(digest), sizeBytes: 1, sha256: '7'.repeat(64) }],
  };
  assert.deepEqual(parseBundle(formatBundle(bundle), 'prestage.json'), bundle);
  for (const files of [[], [{ path: signaturePath(digest), sizeBytes: 1, sha256: '8'.repeat(64) }]]) {
    const error = thrownBy(() => parseBundle(formatBundle({ ...bundle, files }), 'prestage.json'));
    assert.deepEqual(error, {
      code: 'ERR_BUNDLE',
      message: `stages: the signature ${digest} is not among the files`,
      remedy: 'Build the bundle again at the factory, or write it to the partition again',
    });
    const ofRelease = thrownBy(() =>
      parseBundle(
        formatBundle({ ...bundle, stages: {}, releaseSignatures: [{ release: digest, files: [digest] }], files }),
        'prestage.json',
      ),
    );
    assert.equal(ofRelease.message, `releaseSignatures: the signature ${digest} is not among the files`);
  }
});

test('an attachment that is not among the files makes no bundle', () => {
  const digest = `sha256:${'7'.repeat(64)}` as const;
  const image = { reference: 'quay.io/a/b:1', names: ['quay.io/a/b:1'], manifestDigest: digest, compressedBytes: 1, unpackedBytes: 1 };
  const attachments = [{ kind: 'att' as const, subject: digest, manifest: digest }];
  const bundleOf = (files: Bundle['files']): Bundle => ({
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '',
    architecture: 'amd64',
    createdAt: '2024-01-01T00:00:00Z',
    createdBy: { name: 'prestage-agent', version: '1' },
    stages: { installed: { images: [{ ...image, attachments }] } },
    payloads: [],
    files,
  });
  const whole = bundleOf([{ path: 'oci/blob', sizeBytes: 1, sha256: '7'.repeat(64) }]);
  assert.deepEqual(parseBundle(formatBundle(whole), 'prestage.json'), whole);
  assert.deepEqual(
    thrownBy(() => parseBundle(formatBundle(bundleOf([])), 'prestage.json')),
    {
      code: 'ERR_BUNDLE',
      message: `stages: the attachment ${digest} is not among the files`,
      remedy: 'Build the bundle again at the factory, or write it to the partition again',
    },
  );
});
