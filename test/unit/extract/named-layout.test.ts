import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameEntries } from '../../../agent/extract/named-layout.ts';
import { parseOciIndex } from '../../../agent/model/oci-layout.ts';
import { digestFor } from '../../support/source-images.ts';

const [one, two] = [digestFor('one'), digestFor('two')];
const WHERE = 'lay/index.json';

/** @param entries digest, name, and platform where there is one */
function named(...entries: readonly (readonly [digest: string, name?: string, architecture?: string])[]) {
  const manifests = entries.map(([digest, name, architecture]) => ({
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest,
    size: 7,
    ...(name !== undefined && { annotations: { 'org.opencontainers.image.ref.name': name } }),
    ...(architecture !== undefined && { platform: { os: 'linux', architecture } }),
  }));
  const { images, refused, skipped } = nameEntries(parseOciIndex(JSON.stringify({ schemaVersion: 2, manifests }), WHERE), WHERE, 'amd64');
  return { images: images.map(({ name, digest }) => [name, digest]), refused, skipped };
}

test('an image goes by its full name, and an entry without one is left out with its place', () => {
  assert.deepEqual(named([one, 'quay.io/t/app:1'], [two]), {
    images: [['quay.io/t/app:1', one]],
    refused: [],
    skipped: [`${WHERE}: manifests.1 is left out: ${two} has no name`],
  });
});

test('a tag alone, and a name without a registry, are never taken for images of Docker Hub', () => {
  assert.deepEqual(named([one, '1.0'], [two, 'library/busybox:1']), {
    images: [],
    refused: [],
    skipped: [
      `${WHERE}: manifests.0 is left out: ${one} is named "1.0", which is not a full name (registry/repository:tag)`,
      `${WHERE}: manifests.1 is left out: ${two} is named "library/busybox:1", which is not a full name (registry/repository:tag)`,
    ],
  });
  assert.deepEqual(named([one, 'docker.io/busybox']).images, [['docker.io/library/busybox:latest', one]]);
  assert.equal(named([one, 'quay.io/UPPER:1']).skipped.length, 1);
});

test('an entry without a full name that another one names is not missed', () => {
  assert.deepEqual(named([one, '1.0'], [one, 'localhost/app:1']), { images: [['localhost/app:1', one]], refused: [], skipped: [] });
});

test('entries that cannot be read are left out with what is wrong', () => {
  assert.deepEqual(named(['sha512:0', 'quay.io/t/app:1']).skipped, [
    `${WHERE}: manifests.0 is left out: digest: is not sha256:<64 lower-case hex digits>`,
  ]);
});

test('of one name for two platforms, that of the machine is taken', () => {
  assert.deepEqual(named([one, 'quay.io/t/app:1', 'arm64'], [two, 'quay.io/t/app:1', 'amd64']).images, [['quay.io/t/app:1', two]]);
  assert.deepEqual(named([one, 'quay.io/t/app:1', 'arm64']).images, [['quay.io/t/app:1', one]]);
});

test('one name for two images fails for that name alone', () => {
  assert.deepEqual(named([one, 'quay.io/t/app:1'], [two, 'quay.io/t/app:1'], [one, 'quay.io/t/other:1']), {
    images: [['quay.io/t/other:1', one]],
    refused: [
      {
        reference: 'quay.io/t/app:1',
        error: {
          code: 'ERR_LAYOUT',
          message: `${WHERE}: quay.io/t/app:1 is the name of several images: manifests.0 (${one}) and manifests.1 (${two})`,
          remedy: 'Keep one of them under that name, or build a bundle with the image listed by its digest',
        },
      },
    ],
    skipped: [],
  });
});
