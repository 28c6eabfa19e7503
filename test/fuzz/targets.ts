import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parseIndexPage } from '../../agent/factory/fetch/index-page.ts';
import { parseCatalog } from '../../agent/factory/images/catalog.ts';
import { parseImageReferences } from '../../agent/factory/images/release.ts';
import { readChallenge, tokenRequest } from '../../agent/factory/web/challenge.ts';
import { loginIn, parseLogins } from '../../agent/factory/web/logins.ts';
import { formatReferrers, OCI_MANIFEST_TYPE, parseAttached, parseReferrers } from '../../agent/model/attached.ts';
import { isInnerPath, parseBundle } from '../../agent/model/bundle.ts';
import { digestOf } from '../../agent/model/digest.ts';
import { PrestageError } from '../../agent/model/errors.ts';
import { parseImageList } from '../../agent/model/image-list.ts';
import { parseManifest } from '../../agent/model/manifest.ts';
import { parseMapping } from '../../agent/model/mapping.ts';
import { parseOciIndex } from '../../agent/model/oci-layout.ts';
import { resolveSettings } from '../../agent/model/settings.ts';
import { damagedTexts } from './damaged-texts.ts';
import { judgeOddEnds, oddDiskEnds } from './disk-ends.ts';
import { oddDocuments } from './odd-values.ts';

/** A parser of input that somebody else wrote, with a sound input that damaged ones are made from. */
interface FuzzedParser {
  readonly name: string;
  readonly sample: string;
  /** Ends without an error, or in a PrestageError; asserts what must hold of the result. */
  readonly read: (text: string) => void;
}

const DIGEST = digestOf('x');
const json = (value: unknown): string => JSON.stringify(value, undefined, 1);

const parsers: readonly FuzzedParser[] = [
  {
    name: 'image list',
    sample: `quay.io/a/b:1\n quay.io/a/c@${DIGEST} x\r\n# c\n\tdocker.io/library/d\n`,
    read: (text) => void parseImageList(text, 'list'),
  },
  { name: 'mapping', sample: `quay.io/a/b@${DIGEST}=registry:5000/c/d:1\n`, read: (text) => void parseMapping(text, 'mapping') },
  {
    name: 'settings',
    sample: 'stage: discovery\nlabel: data\nretries: 3\nparallel: auto\n',
    read: (text) => void resolveSettings({ file: { path: 'config.yaml', text } }),
  },
  {
    name: 'image-references',
    sample: json({
      kind: 'ImageStream',
      metadata: { name: '4.14.0' },
      spec: { tags: [{ name: 'etcd', from: { kind: 'DockerImage', name: `quay.io/a/b@${DIGEST}` } }] },
    }),
    read: (text) => void parseImageReferences(text, 'release'),
  },
  {
    name: 'catalog as JSON',
    sample: `${json({ schema: 'olm.package', name: 'foo', defaultChannel: 's' })}\n${json({ schema: 'olm.channel', package: 'foo', name: 's', entries: [{ name: 'v2', replaces: 'v1', skips: ['v0'], skipRange: '<2.0.0' }] })}`,
    read: (text) => void parseCatalog([{ path: 'c.json', text }], ['']),
  },
  {
    name: 'catalog as YAML',
    sample:
      'schema: olm.package\nname: foo\n---\nschema: olm.bundle\npackage: foo\nname: v1\nimage: quay.io/a/b:1\nproperties: [{type: olm.package, value: {version: 1.0.0}}]\nrelatedImages: [{name: a, image: "quay.io/a/c:1"}]\n',
    read: (text) => void parseCatalog([{ path: 'c.yaml', text }], ['']),
  },
  {
    name: 'OCI index',
    sample: json({
      schemaVersion: 2,
      manifests: [
        {
          mediaType: 'application/vnd.oci.image.manifest.v1+json',
          digest: DIGEST,
          size: 7,
          annotations: { 'org.opencontainers.image.ref.name': 'quay.io/a/b:1' },
        },
      ],
    }),
    read: (text) => void parseOciIndex(text, 'index.json'),
  },
  {
    name: 'manifest',
    sample: json({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'c', digest: DIGEST, size: 2 },
      layers: [{ mediaType: 'l', digest: DIGEST, size: 3 }],
    }),
    read: (text) => void parseManifest(new TextEncoder().encode(text), 'manifest.json'),
  },
  {
    name: 'attachment',
    sample: json({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST_TYPE,
      artifactType: 'a/b',
      config: { mediaType: 'c', digest: DIGEST, size: 2 },
      layers: [{ mediaType: 'l', digest: DIGEST, size: 3 }],
      subject: { mediaType: OCI_MANIFEST_TYPE, digest: DIGEST, size: 3 },
      annotations: { a: 'b' },
    }),
    read: (text) => {
      const { subject } = parseAttached(Buffer.from(text), 'attachment', { digest: DIGEST, isNamed: true });
      assert.equal(subject, DIGEST);
    },
  },
  {
    name: 'list of referrers',
    sample: formatReferrers([{ digest: DIGEST, sizeBytes: 3, artifactType: 'a/b', annotations: { a: 'b' } }]),
    read: (text) => {
      const found = parseReferrers(Buffer.from(text), 'list');
      assert.equal(parseReferrers(Buffer.from(formatReferrers(found)), 'list').length, found.length);
    },
  },
  {
    name: 'logins',
    sample: json({ auths: { 'quay.io/a': { auth: 'dTpw' }, 'https://index.docker.io/v1/': { identitytoken: 't' } }, credsStore: 'x' }),
    read: (text) => void loginIn(parseLogins(text, 'auth.json'), 'quay.io/a/b'),
  },
  {
    name: 'challenge of a registry',
    sample: 'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull"',
    read: (text) => {
      const challenge = readChallenge(text, 'a/b');
      const request = challenge?.kind === 'bearer' ? tokenRequest(challenge, undefined) : undefined;
      assert.ok(request === undefined || /^https?:$/.test(request.url.protocol));
    },
  },
  {
    name: 'prestage.json',
    sample: json({
      apiVersion: 'prestage-agent/v1',
      kind: 'Bundle',
      release: '',
      architecture: 'amd64',
      createdAt: '2026-01-01T00:00:00Z',
      createdBy: { name: 'a', version: '1' },
      stages: {
        discovery: {
          images: [{ reference: 'quay.io/a/b:1', names: ['quay.io/a/b:1'], manifestDigest: DIGEST, compressedBytes: 1, unpackedBytes: 2 }],
        },
      },
      payloads: [{ kind: 'oci', path: 'oci' }],
      files: [{ path: 'oci/index.json', sizeBytes: 1, sha256: 'a'.repeat(64) }],
    }),
    read: (text) => {
      const bundle = parseBundle(text, 'prestage.json');
      assert.ok(bundle.files.every((file) => isInnerPath(file.path) && !`/${file.path}/`.includes('/../')));
    },
  },
  {
    name: 'index page',
    sample:
      '<html><head><title>Index of /a/</title></head><body><h1>Index of /a/</h1><pre><a href="../">../</a>\n<a href="x.tgz">x.tgz</a> 1-Jan-2026 10\n<a href="d%20e/">d e/</a></pre></body></html>',
    read: (text) => {
      const page = parseIndexPage(text, new URL('http://127.0.0.1/a/'));
      for (const entry of page?.entries ?? []) {
        assert.ok(!entry.name.includes('/') && entry.name !== '..' && entry.name !== '.' && !entry.name.includes('\0'), entry.name);
        assert.ok(entry.url.startsWith('http://127.0.0.1/a/'), entry.url);
      }
    },
  },
];

/** What is fuzzed: each text parser with damaged texts, those of JSON with odd documents too, and what reads bytes. */
export const targets: readonly FuzzTarget[] = [
  ...parsers.map(({ name, sample, read }) => target(name, damagedTexts(sample), read)),
  ...parsers
    .filter(({ sample }) => sample.startsWith('{') && !sample.includes('}\n{'))
    .map(({ name, sample, read }) => target(`${name}, odd`, oddDocuments(JSON.parse(sample)).map(json), read)),
  target('both ends of a disk', oddDiskEnds, judgeOddEnds),
];

/** A reader of inputs that somebody else made. */
export interface FuzzTarget {
  readonly name: string;
  /** Reads some inputs. Throws what fast-check found. */
  readonly search: (options: { readonly seed: number; readonly runs: number }) => void;
}

/** A reading that takes longer hangs: each takes well below a millisecond. */
const HANG_MS = 2000;

/** Reads odd inputs: no crash, no hang, no escape. */
function target<T>(name: string, inputs: fc.Arbitrary<T>, read: (input: T) => void): FuzzTarget {
  const property = fc.property(inputs, (input) => {
    const start = performance.now();
    try {
      read(input);
    } catch (error) {
      if (!(error instanceof PrestageError)) throw error;
    }
    assert.ok(performance.now() - start < HANG_MS, `took ${performance.now() - start} ms`);
  });
  return { name, search: ({ seed, runs }) => fc.assert(property, { seed, numRuns: runs }) };
}
