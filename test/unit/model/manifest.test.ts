import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '../../../agent/model/digest.ts';
import { type IndexManifest, instanceFor, MANIFEST_LIMIT_BYTES, parseManifest } from '../../../agent/model/manifest.ts';
import { codeOf, thrownBy } from '../../support/thrown.ts';

const A = digestOf('a');
const B = digestOf('b');
const OCI_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const REMEDY = 'Write the archive again at the factory';

function bytesOf(json: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(json));
}

function refusalOf(json: unknown): string {
  const { code, message, remedy } = thrownBy(() => parseManifest(bytesOf(json), 'x.tgz: manifest.json'));
  assert.deepEqual({ code, remedy }, { code: 'ERR_MANIFEST', remedy: REMEDY });
  return message;
}

function indexOf(...platforms: readonly (string | undefined)[]): {
  readonly index: IndexManifest;
  readonly pick: (architecture: string) => number;
} {
  const manifests = platforms.map((platform, position) => {
    const [os, architecture, variant] = platform?.split('/') ?? [];
    return {
      mediaType: OCI_MANIFEST,
      digest: digestOf(String(position)),
      size: position,
      ...(platform !== undefined && { platform: { os, architecture, ...(variant !== undefined && { variant }) } }),
    };
  });
  const index = parseManifest(bytesOf({ schemaVersion: 2, manifests }), 'index.json');
  assert.equal(index.kind, 'index');
  return { index, pick: (architecture) => instanceFor(index, architecture)?.sizeBytes ?? -1 };
}

test('an image manifest gives its config and its layers, lowest first, a layer also twice', () => {
  const layer = { mediaType: OCI_GZIP, digest: A, size: 3, annotations: { ignored: 'yes' } };
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: B, size: 4 };
  assert.deepEqual(parseManifest(bytesOf({ schemaVersion: 2, config, layers: [layer, layer] }), 'x'), {
    kind: 'image',
    config: { digest: B, sizeBytes: 4, mediaType: 'application/vnd.oci.image.config.v1+json' },
    layers: [
      { digest: A, sizeBytes: 3, mediaType: OCI_GZIP },
      { digest: A, sizeBytes: 3, mediaType: OCI_GZIP },
    ],
  });
});

test('a foreign layer is a layer like others, its place on the network is not looked at', () => {
  const mediaType = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const layer = { mediaType, digest: A, size: 3, urls: ['https://example.com/layer'] };
  assert.deepEqual(parseManifest(bytesOf({ schemaVersion: 2, config: { digest: B, size: 4 }, layers: [layer] }), 'x'), {
    kind: 'image',
    config: { digest: B, sizeBytes: 4, mediaType: '' },
    layers: [{ digest: A, sizeBytes: 3, mediaType }],
  });
});

test('an index gives its instances with their platforms, which can be left out', () => {
  const manifests = [
    { mediaType: OCI_MANIFEST, digest: A, size: 3, platform: { os: 'linux', architecture: 'arm64', variant: 'v8' } },
    { mediaType: OCI_MANIFEST, digest: B, size: 4 },
  ];
  assert.deepEqual(parseManifest(bytesOf({ schemaVersion: 2, manifests }), 'x'), {
    kind: 'index',
    instances: [
      { digest: A, sizeBytes: 3, mediaType: OCI_MANIFEST, os: 'linux', architecture: 'arm64', variant: 'v8' },
      { digest: B, sizeBytes: 4, mediaType: OCI_MANIFEST, os: '', architecture: '', variant: '' },
    ],
  });
});

test('a Docker schema 1 manifest is refused by name', () => {
  const schema1 = {
    schemaVersion: 1,
    name: 'a/b',
    tag: '1',
    architecture: 'amd64',
    fsLayers: [{ blobSum: A }],
    history: [],
    signatures: [],
  };
  assert.equal(
    refusalOf(schema1),
    'x.tgz: manifest.json is a Docker schema 1 manifest, which has no config and cannot be loaded by digest',
  );
});

test('a document that is an image and an index in one is refused', () => {
  const image = { schemaVersion: 2, config: { digest: A, size: 1 }, layers: [] };
  assert.equal(refusalOf({ ...image, manifests: [] }), 'x.tgz: manifest.json is ambiguous: it is both an image manifest and an index');
  assert.equal(
    refusalOf({ schemaVersion: 2, layers: [], manifests: [] }),
    'x.tgz: manifest.json is ambiguous: it is both an image manifest and an index',
  );
});

test('what is wrong with a manifest is told field by field', () => {
  const layer = { digest: 'sha512:1', size: -1 };
  assert.equal(
    refusalOf({ schemaVersion: 2, config: { digest: A, size: 1e300 }, layers: [layer] }),
    [
      'x.tgz: manifest.json is not an image manifest: 3 faults',
      'x.tgz: manifest.json is not an image manifest: config.size: Invalid safe integer: Received 1e+300',
      'x.tgz: manifest.json is not an image manifest: layers.0.digest: is not sha256:<64 lower-case hex digits>',
      'x.tgz: manifest.json is not an image manifest: layers.0.size: Invalid value: Expected >=0 but received -1',
    ].join('\n'),
  );
  assert.match(
    refusalOf({ schemaVersion: 3, config: { digest: A, size: 1 }, layers: [] }),
    /^x\.tgz: manifest\.json is not an image manifest: schemaVersion: /,
  );
  assert.match(
    refusalOf({ schemaVersion: 2, manifests: [{ digest: 5, size: 1 }] }),
    /: manifests\.0\.digest: is not sha256:<64 lower-case hex digits>$/,
  );
  assert.match(refusalOf('text'), /^x\.tgz: manifest\.json is not an image manifest: manifest: /);
  assert.match(refusalOf(null), /^x\.tgz: manifest\.json is not an image manifest: manifest: /);
});

test('bytes that are no JSON are refused, also with a byte order mark or broken UTF-8', () => {
  for (const bytes of [
    Buffer.from('<html>404'),
    Buffer.from('\uFEFF{}'),
    Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]),
    Buffer.alloc(0),
    Buffer.alloc(64),
  ]) {
    const { code, message, remedy } = thrownBy(() => parseManifest(bytes, 'x'));
    assert.deepEqual({ code, remedy }, { code: 'ERR_MANIFEST', remedy: REMEDY });
    assert.match(message, /^x is not JSON: (SyntaxError|TypeError)/);
  }
});

test('a manifest of more than 4 MiB is refused before it is read', () => {
  assert.deepEqual(
    thrownBy(() => parseManifest(Buffer.alloc(MANIFEST_LIMIT_BYTES + 1), 'x')),
    { code: 'ERR_MANIFEST', message: 'x has 4194305 bytes, more than the limit of 4194304 for a manifest', remedy: REMEDY },
  );
});

test('any JSON is a manifest or refused with ERR_MANIFEST', () => {
  const shapes = fc.record(
    {
      schemaVersion: fc.constantFrom(1, 2, '2'),
      config: fc.jsonValue(),
      layers: fc.jsonValue(),
      manifests: fc.jsonValue(),
      fsLayers: fc.jsonValue(),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), shapes), (json) => {
      const code = codeOf(() => parseManifest(bytesOf(json), 'x'));
      assert.ok(code === undefined || code === 'ERR_MANIFEST', code);
    }),
  );
});

// What skopeo picks from such indexes, test/integration/model/agrees.test.ts asks it.
test('of an index the image for the machine is picked as skopeo does', () => {
  const table: readonly (readonly [readonly (string | undefined)[], string, number])[] = [
    [['linux/arm64', 'linux/amd64'], 'amd64', 1],
    [['linux/arm64', 'linux/amd64'], 'arm64', 0],
    [['linux/amd64', 'linux/amd64'], 'amd64', 0],
    [['windows/amd64', 'linux/amd64'], 'amd64', 1],
    [['linux/amd64/v2', 'linux/amd64'], 'amd64', 1],
    [['linux/amd64/v2'], 'amd64', -1],
    [['linux/arm64', 'linux/arm64/v8'], 'arm64', 1],
    [['linux/arm64/v9', 'linux/arm64'], 'arm64', 1],
    [[undefined, 'linux/amd64'], 'amd64', 1],
    [['linux/arm64', undefined], 'amd64', 1],
    [['linux/s390x'], 'amd64', -1],
    [[], 'amd64', -1],
  ];
  assert.deepEqual(
    table.map(([platforms, architecture]) => [platforms, architecture, indexOf(...platforms).pick(architecture)]),
    table,
  );
});
