import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bundleFacts } from '../../../agent/bundle/bundle-facts.ts';
import { EMPTY_BUNDLE, FULL_BUNDLE } from '../../support/bundle-facts.ts';

test('the facts of a bundle count its files, stages, payloads, signatures, attachments and absent platforms', () => {
  assert.deepEqual(bundleFacts(FULL_BUNDLE), {
    files: 8,
    bytes: 8034,
    stages: [
      { stage: 'discovery', images: 1, compressedBytes: 10, unpackedBytes: 20 },
      { stage: 'installed', images: 2, compressedBytes: 40, unpackedBytes: 80 },
    ],
    payloads: [
      { kind: 'archives', path: 'archives', files: 1, bytes: 5 },
      { kind: 'oci', path: 'oci', files: 1, bytes: 7 },
      { kind: 'registry', path: 'registry', files: 1, bytes: 3 },
      {
        kind: 'store',
        stage: 'installed',
        path: 'store/image',
        files: 3,
        bytes: 4010,
        compression: 'zstd level 6',
        registryImage: 'quay.io/a/two:1',
      },
      { kind: 'store', stage: 'discovery', path: 'store/old', files: 3, bytes: 4010, compression: 'not recorded' },
    ],
    images: 2,
    signatures: { sigstore: 1, gpg: 1, signedImages: 1, releases: 1 },
    attachments: 1,
    absent: [
      { platform: '', images: 1 },
      { platform: 'linux/arm64', images: 2 },
    ],
  });
});

test('the facts of an empty bundle are zeros', () => {
  assert.deepEqual(bundleFacts(EMPTY_BUNDLE), {
    files: 0,
    bytes: 0,
    stages: [],
    payloads: [],
    images: 0,
    signatures: { sigstore: 0, gpg: 0, signedImages: 0, releases: 0 },
    attachments: 0,
    absent: [],
  });
});
