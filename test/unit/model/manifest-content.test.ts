import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ImageManifest, parseManifest } from '../../../agent/model/manifest.ts';
import { contentOf, isForeignLayer, notImage, notImageError, parsePlatform } from '../../../agent/model/manifest-content.ts';
import { digestFor } from '../../support/source-images.ts';

const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
const EMPTY = 'application/vnd.oci.empty.v1+json';

function manifest(config: string, ...layers: readonly string[]): ImageManifest {
  const descriptor = (mediaType: string) => ({ mediaType, digest: digestFor(mediaType), size: 2 });
  const text = JSON.stringify({ schemaVersion: 2, config: descriptor(config), layers: layers.map(descriptor) });
  const parsed = parseManifest(Buffer.from(text), 'x');
  return parsed.kind === 'image' ? parsed : assert.fail();
}

/** Types as the tools write them: name, config, layers, what it is, in words. */
const CASES = [
  ['podman', OCI_CONFIG, ['application/vnd.oci.image.layer.v1.tar+gzip'], 'image', undefined],
  ['a build with zstd', OCI_CONFIG, ['application/vnd.oci.image.layer.v1.tar+zstd'], 'image', undefined],
  ['docker', 'application/vnd.docker.container.image.v1+json', ['application/vnd.docker.image.rootfs.diff.tar.gzip'], 'image', undefined],
  ['a tool that names no types', '', [''], 'image', undefined],
  ['an image without layers', OCI_CONFIG, [], 'image', undefined],
  ['an encrypted image', OCI_CONFIG, ['application/vnd.oci.image.layer.v1.tar+gzip+encrypted'], 'image', undefined],
  [
    'Windows',
    'application/vnd.docker.container.image.v1+json',
    ['application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', 'application/vnd.docker.image.rootfs.diff.tar.gzip'],
    'foreign-layers',
    'an image with layers that registries do not distribute, such as an image for Windows',
  ],
  [
    'Windows in OCI form',
    OCI_CONFIG,
    ['application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'],
    'foreign-layers',
    'an image with layers that registries do not distribute, such as an image for Windows',
  ],
  [
    'helm',
    'application/vnd.cncf.helm.config.v1+json',
    ['application/vnd.cncf.helm.chart.content.v1.tar+gzip'],
    'helm-chart',
    'a Helm chart',
  ],
  ['cosign sign', OCI_CONFIG, ['application/vnd.dev.cosign.simplesigning.v1+json'], 'signature', 'a signature'],
  ['cosign sign, version 3', EMPTY, ['application/vnd.dev.sigstore.bundle.v0.3+json'], 'signature', 'a signature'],
  ['cosign attest', OCI_CONFIG, ['application/vnd.dsse.envelope.v1+json'], 'attestation', 'an attestation'],
  ['BuildKit', OCI_CONFIG, ['application/vnd.in-toto+json'], 'attestation', 'an attestation'],
  ['cosign attach sbom', OCI_CONFIG, ['text/spdx+json'], 'artifact', `an artifact with a config of type "${OCI_CONFIG}"`],
  ['oras', EMPTY, ['application/spdx+json'], 'artifact', `an artifact with a config of type "${EMPTY}"`],
  [
    'a module of wasm',
    'application/vnd.wasm.config.v1+json',
    ['application/wasm'],
    'artifact',
    'an artifact with a config of type "application/vnd.wasm.config.v1+json"',
  ],
  [
    'an artifact that says layers',
    'a/b',
    ['application/vnd.oci.image.layer.v1.tar'],
    'artifact',
    'an artifact with a config of type "a/b"',
  ],
] as const;

for (const [name, config, layers, content, words] of CASES) {
  test(`what ${name} makes is known by the types of its config and layers`, () => {
    const made = manifest(config, ...layers);
    assert.deepEqual([contentOf(made), notImage(made)], [content, words]);
  });
}

test('a list is a list, whatever it names', () => {
  const index = parseManifest(Buffer.from('{"schemaVersion":2,"manifests":[]}'), 'x');
  assert.deepEqual([contentOf(index), notImage(index)], ['index', undefined]);
});

const WINDOWS = ['application/vnd.oci.image.layer.v1.tar+gzip'] as const;

test('an image for Windows is known by its system where its layers do not tell it', () => {
  assert.deepEqual(
    ['', 'linux', 'windows'].map((os) => notImage(manifest(OCI_CONFIG, ...WINDOWS), os)),
    [undefined, undefined, 'an image for "windows"'],
  );
  assert.equal(notImage(manifest('application/vnd.cncf.helm.config.v1+json'), 'windows'), 'a Helm chart');
});

test('a list of images for other systems alone is not an image, and one for Linux among them makes it one', () => {
  const list = (...systems: readonly string[]) => {
    const manifests = systems.map((os) => ({
      digest: digestFor(os),
      size: 2,
      ...(os !== '' && { platform: { os, architecture: 'amd64' } }),
    }));
    return parseManifest(Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })), 'x');
  };
  assert.deepEqual(
    [list('windows', 'unknown', 'windows'), list('windows', 'linux'), list('windows', ''), list('a', 'b', 'c', 'd')].map((one) =>
      notImage(one),
    ),
    ['a list of images for "windows", "unknown" alone', undefined, undefined, 'a list of images for "a", "b", "c" alone'],
  );
});

test('a config tells the platform, and what is not a config tells none', () => {
  const none = { os: '', architecture: '' };
  assert.deepEqual(parsePlatform(Buffer.from('{"os":"windows","architecture":"amd64","x":1}')), { os: 'windows', architecture: 'amd64' });
  for (const text of ['', '[', '"windows"', '{"os":7}']) assert.deepEqual(parsePlatform(Buffer.from(text)), none, text);
});

test('layers that need not be there are told by their type', () => {
  assert.equal(isForeignLayer('application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'), true);
  assert.equal(isForeignLayer('application/vnd.oci.image.layer.v1.tar+gzip'), false);
});

test('the refusal says where, what, and how to go on', () => {
  const { code, message, remedy } = notImageError('quay.io/a/b:1', 'a Helm chart');
  assert.deepEqual(
    [code, message, remedy],
    [
      'ERR_NOT_IMAGE',
      'quay.io/a/b:1 is a Helm chart, not a container image for Linux',
      'Take it off the list, or give --skip-artifacts to pull and build',
    ],
  );
});
