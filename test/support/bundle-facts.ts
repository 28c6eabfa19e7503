import type { Bundle, BundleImage } from '../../agent/model/bundle.ts';
import type { Digest } from '../../agent/model/digest.ts';

/** A manifest with nothing in it. */
export const EMPTY_BUNDLE: Bundle = {
  apiVersion: 'prestage-agent/v1',
  kind: 'Bundle',
  release: '',
  architecture: 'amd64',
  createdAt: '2026-01-01T00:00:00Z',
  createdBy: { name: 'prestage-agent', version: '0.1.0' },
  stages: {},
  payloads: [],
  files: [],
};

const one = image('quay.io/a/one:1', 10);
const verity = { hashTree: 'store/tree', rootHash: 'a'.repeat(64) };
const mirror = 'mirror';
const absent = (platform: string) => ({ digest: digestOf('9'), platform });

/** A manifest that has something of every kind: both stages, all payloads, signatures, attachments, absent platforms. */
export const FULL_BUNDLE: Bundle = {
  ...EMPTY_BUNDLE,
  release: '4.22.3',
  stages: {
    discovery: { images: [{ ...one, absent: [absent('linux/arm64'), absent('linux/arm64'), absent('')] }] },
    installed: {
      images: [
        { ...one, absent: [absent('linux/arm64'), absent('')] },
        {
          ...image('quay.io/a/two:1', 30),
          absent: [absent('linux/arm64')],
          signatures: [
            { kind: 'sigstore', subject: digestOf('2'), manifest: digestOf('3') },
            { kind: 'gpg', subject: digestOf('2'), file: digestOf('4') },
          ],
          attachments: [{ kind: 'att', subject: digestOf('2'), manifest: digestOf('5') }],
        },
      ],
    },
  },
  payloads: [
    { kind: 'archives', path: 'archives' },
    { kind: 'oci', path: 'oci' },
    { kind: 'registry', path: 'registry' },
    {
      kind: 'store',
      stage: 'installed',
      image: 'store/image',
      compression: { algorithm: 'zstd', level: 6 },
      verity,
      mirror,
      registryImage: 'quay.io/a/two:1',
    },
    { kind: 'store', stage: 'discovery', image: 'store/old', verity, mirror },
  ],
  releaseSignatures: [{ release: digestOf('6'), files: [digestOf('7')] }],
  files: [
    file('archives/one.tgz', 5),
    file('mirror/link', 6),
    file('oci/index.json', 7),
    file('prestage-agent', 9),
    file('registry/link', 3),
    file('store/image', 4000),
    file('store/old', 4000),
    file('store/tree', 4),
  ],
};

function image(reference: string, size: number): BundleImage {
  return { reference, names: [reference], manifestDigest: digestOf('1'), compressedBytes: size, unpackedBytes: 2 * size };
}

function file(path: string, sizeBytes: number): Bundle['files'][number] {
  return { path, sizeBytes, sha256: 'b'.repeat(64) };
}

function digestOf(digit: string): Digest {
  return `sha256:${digit.repeat(64)}`;
}
