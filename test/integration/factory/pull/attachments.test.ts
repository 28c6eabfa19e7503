import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { imageEntries, readOciLayout } from '../../../../agent/extract/oci-layout.ts';
import { attachedTag, OCI_INDEX_TYPE, referrersTag } from '../../../../agent/model/attached.ts';
import type { Digest } from '../../../../agent/model/digest.ts';
import { BUNDLE_TYPE, listOfReferrers, longList, makeAttached, makeTagged } from '../../../support/attaching.ts';
import { type FaultProxy, type FaultRule, startFaultProxy } from '../../../support/fault-proxy.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import { blobsOf, type MadeImage } from '../../../support/images.ts';
import { type TriedPull, tryPull, wholeBlobs } from '../../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../../support/registry.ts';

const LOOKUP = /^GET .*\/(?:referrers\/sha256:|manifests\/sha256-)/;
const SBOM = 'text/spdx+json';

let set: ImageSet;
let registry: Registry;
let proxy: FaultProxy;
let work: string;
/** Under tags, and referrers, of the release image. */
let att: MadeImage;
let sbom: MadeImage;
let bundles: readonly MadeImage[];
let list: MadeImage;

before(async () => {
  set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  proxy = await startFaultProxy(registry.port);
  await registry.add(set.store, set.all);
  const { release } = set.images;
  const repository = repositoryOf(release);
  const subject = release.digest;
  att = await makeAttached(set.store, { repository, tag: attachedTag(subject, 'att'), content: 'an attestation' });
  sbom = await makeAttached(set.store, { repository, tag: attachedTag(subject, 'sbom'), artifactType: SBOM, content: 'an SBOM' });
  bundles = await Promise.all(
    ['one', 'two'].map(async (content) => await makeAttached(set.store, { repository, subject, artifactType: BUNDLE_TYPE, content })),
  );
  list = await makeTagged(set.store, `${repository}:${referrersTag(subject)}`, listOfReferrers(bundles));
  await registry.add(set.store, [att, sbom, ...bundles, list]);
  work = await mkdtemp(join(tmpdir(), 'pull-attachments-'));
});
after(async () => {
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

const repositoryOf = ({ reference }: MadeImage): string => reference.replace(/(?::[^/]*)?(?:@.*)?$/, '');
const newFolder = async (): Promise<string> => await mkdtemp(join(work, 'to-'));
const lookUps = (from: number): readonly string[] => proxy.requests.slice(from).filter((line) => LOOKUP.test(line));
const pullOf = async (image: MadeImage, rules: readonly FaultRule[] = [], to?: string): Promise<TriedPull & { readonly to: string }> => {
  proxy.set(rules);
  const folder = to ?? (await newFolder());
  const tried = await tryPull(folder, [localReference(proxy.host, image.reference)], { attachments: true });
  return { ...tried, to: folder };
};
const besideOf = async (to: string): Promise<readonly (readonly [string, Digest])[]> => {
  const entries = await readOciLayout(to);
  const images = new Set(imageEntries(entries));
  return entries.filter((entry) => !images.has(entry)).map(({ reference, digest }) => [reference, digest]);
};
const expected = (): readonly (readonly [string, Digest])[] =>
  [list, att, sbom].map(({ reference, digest }) => [localReference(proxy.host, reference), digest]);
const attachedTo = (): unknown => {
  const one = (kind: string, { digest, manifest: { sizeBytes } }: MadeImage, artifactType: string) => ({
    kind,
    subject: set.images.release.digest,
    digest,
    sizeBytes,
    artifactType,
  });
  const sorted = bundles.toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
  return [
    one('att', att, 'application/vnd.oci.empty.v1+json'),
    one('sbom', sbom, SBOM),
    ...sorted.map((bundle) => one('referrer', bundle, BUNDLE_TYPE)),
  ];
};
/** How a registry with a call for referrers answers. */
const page = (body: string, link?: string): FaultRule['fault'] => ({
  kind: 'answer',
  headers: { 'content-type': OCI_INDEX_TYPE, ...(link !== undefined && { link: `<${link}>; rel="next"` }) },
  body,
});

describe('a pull with attachments', () => {
  it('brings attestation, SBOM and referrers with their blobs, and shows none as an image', async () => {
    const { report, to } = await pullOf(set.images.release);
    assert.equal(report.outcome, 'complete', JSON.stringify(report));
    assert.deepEqual(await besideOf(to), expected());
    assert.deepEqual(report.images[0]?.attached, attachedTo());
    const blobs = await wholeBlobs(to);
    for (const one of [att, sbom, ...bundles, list])
      for (const digest of [one.digest, ...blobsOf(one).map((blob) => blob.digest)]) assert.ok(blobs.includes(digest));
    assert.deepEqual(
      imageEntries(await readOciLayout(to)).map(({ digest }) => digest),
      [set.images.release.digest],
    );
  });

  it('asks for nothing twice, neither for what is there nor for what is absent', async () => {
    for (const image of [set.images.release, set.images.otherArchitecture]) {
      const { to } = await pullOf(image);
      const entries = await besideOf(to);
      const before = proxy.requests.length;
      const { report } = await pullOf(image, [], to);
      assert.deepEqual([report.outcome, lookUps(before)], ['complete', []]);
      assert.deepEqual(await besideOf(to), entries);
    }
  });

  it('asks for the list and for each of its instances, and for nothing unless it is told to', async () => {
    const { otherArchitecture } = set.images;
    const before = proxy.requests.length;
    const { report } = await pullOf(otherArchitecture);
    const subjects = [otherArchitecture.digest, ...otherArchitecture.instances.map(({ manifest }) => manifest.digest)];
    assert.deepEqual(
      lookUps(before)
        .filter((line) => line.includes('referrers'))
        .map((line) => line.split('/').at(-1) ?? '')
        .toSorted((a, b) => (a < b ? -1 : 1)),
      subjects.toSorted((a, b) => (a < b ? -1 : 1)),
    );
    assert.deepEqual(report.images[0]?.attached, []);
    const without = proxy.requests.length;
    const plain = await tryPull(await newFolder(), [localReference(proxy.host, otherArchitecture.reference)]);
    assert.deepEqual([lookUps(without), plain.report.images[0]?.attached], [[], undefined]);
  });

  it('takes the list of a registry that has a call for it, page by page', async () => {
    const [one, two] = bundles.map((bundle) => listOfReferrers([bundle]));
    const { report, to } = await pullOf(set.images.release, [
      {
        on: /referrers\/sha256:[0-9a-f]{64}$/,
        fault: page(
          one ?? '',
          `/v2/${set.images.release.reference.split('/').slice(1).join('/').split(':')[0]}/referrers/${set.images.release.digest}?last=1`,
        ),
      },
      { on: /referrers\/.*\?last=1$/, fault: page(two ?? '') },
      { on: /manifests\/sha256-[0-9a-f]{64}$/, fault: { kind: 'status', status: 500 } },
    ]);
    assert.equal(report.outcome, 'complete', JSON.stringify(report));
    assert.deepEqual(await besideOf(to), expected());
  });

  it('asks the first mirror of registries.conf that has the image, and not the source', async () => {
    const home = await newFolder();
    const repository = localReference(proxy.host, repositoryOf(set.images.release));
    const mirrors = [`${registry.host}/nothing/here`, localReference(registry.host, repositoryOf(set.images.release))];
    const entry = `[[registry]]\nlocation = "${repository}"\n${mirrors.map((one) => `[[registry.mirror]]\nlocation = "${one}"\ninsecure = true\n`).join('')}`;
    await mkdir(join(home, '.config/containers'), { recursive: true });
    await writeFile(join(home, '.config/containers/registries.conf'), entry);
    proxy.set([]);
    const before = proxy.requests.length;
    const reference = localReference(proxy.host, set.images.release.reference);
    const { report } = await tryPull(await newFolder(), [reference], { attachments: true, env: { HOME: home } });
    assert.deepEqual([report.outcome, report.images[0]?.attached], ['complete', attachedTo()], JSON.stringify(report));
    assert.deepEqual(lookUps(before), []);
  });

  it('takes an image that is tagged with its own digest for no list of referrers', async () => {
    const { oci } = set.images;
    await registry.add(set.store, [{ ...oci, reference: `${repositoryOf(oci)}:${referrersTag(oci.digest)}` }]);
    const { report, to } = await pullOf(oci);
    assert.deepEqual([report.outcome, report.images[0]?.attached, await besideOf(to)], ['complete', [], []]);
  });

  it('tries a look-up again after an error, and fails the image if it stays so', async () => {
    const passing = await pullOf(set.images.release, [{ on: LOOKUP, times: 1, fault: { kind: 'status', status: 503 } }]);
    assert.equal(passing.report.outcome, 'complete', JSON.stringify(passing.report));
    assert.ok(passing.events.some((event) => event.kind === 'image-retried' && event.error.code === 'ERR_PULL_SERVER'));
    assert.deepEqual(await besideOf(passing.to), expected());
    const lasting = await pullOf(set.images.release, [{ on: LOOKUP, fault: { kind: 'status', status: 403 } }]);
    assert.deepEqual([lasting.report.outcome, lasting.report.images[0]?.error?.code], ['failed', 'ERR_PULL_DENIED']);
  });

  it('leaves out a referrer that is listed and not there, and says so', async () => {
    const [gone] = bundles;
    const { report, log } = await pullOf(set.images.release, [
      { on: new RegExp(`manifests/${gone?.digest}`), fault: { kind: 'status', status: 404 } },
    ]);
    assert.deepEqual([report.outcome, report.images[0]?.attached?.length], ['complete', 3]);
    assert.ok(
      log.some(
        (line) => line.startsWith('notice: ') && line.includes(`@${gone?.digest} is left out: the registry lists it as a referrer of`),
      ),
      log.join('\n'),
    );
  });

  it('brings no bytes that are not those of their digest', async () => {
    const layer = att.instances[0]?.layers[0]?.digest ?? '';
    const { report } = await pullOf(set.images.release, [{ on: new RegExp(`blobs/${layer}`), fault: { kind: 'corrupt' } }]);
    assert.deepEqual([report.outcome, report.images[0]?.error?.code], ['failed', 'ERR_PULL_DIGEST']);
  });

  describe('of what is no attachment', () => {
    const refused = async (to: MadeImage, attached: readonly MadeImage[], said: RegExp): Promise<void> => {
      await registry.add(set.store, attached);
      const { report } = await pullOf(to);
      const { error } = report.images[0] ?? {};
      assert.deepEqual([report.outcome, error?.code], ['failed', 'ERR_ATTACHMENT']);
      assert.match(error?.message ?? '', said);
    };
    const underTag = async (image: MadeImage, text: string, below: readonly MadeImage[] = []): Promise<MadeImage> =>
      await makeTagged(set.store, `${repositoryOf(image)}:${referrersTag(image.digest)}`, text, below);

    it('refuses a referrer that belongs to another image, and one that is an index', async () => {
      const { whiteouts, links } = set.images;
      const foreign = await makeAttached(set.store, {
        repository: repositoryOf(whiteouts),
        subject: links.digest,
        artifactType: 'a/b',
        content: 'x',
      });
      await refused(whiteouts, [foreign, await underTag(whiteouts, listOfReferrers([foreign]))], /cannot be used: it belongs to sha256:/);
      const index = await makeTagged(
        set.store,
        `${repositoryOf(links)}:an-index`,
        JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX_TYPE, manifests: [], subject: { digest: links.digest } }),
      );
      await refused(
        links,
        [index, await underTag(links, listOfReferrers([index]))],
        /cannot be used: it is an index, not an image manifest/,
      );
    });

    it('refuses 1,001 referrers, an image in place of their list, and a manifest of 5 MiB', async () => {
      const { zstd, agent, indexByTag } = set.images;
      await refused(zstd, [await underTag(zstd, longList(1001))], /names 1001 referrers, more than the limit of 1000/);
      const tag = referrersTag(agent.digest);
      await refused(agent, [{ ...zstd, reference: `${repositoryOf(agent)}:${tag}` }], /it is an image manifest, not a list of referrers/);
      proxy.set([]);
      const large = JSON.stringify({ schemaVersion: 2, filler: 'x'.repeat(5 * 1024 * 1024) });
      const { report } = await pullOf(indexByTag, [
        { on: /manifests\/sha256-[0-9a-f]{64}\.att$/, fault: { kind: 'answer', headers: {}, body: large } },
      ]);
      assert.deepEqual([report.outcome, report.images[0]?.error?.code], ['failed', 'ERR_ATTACHMENT']);
      assert.match(report.images[0]?.error?.message ?? '', /has more than 4194304 bytes, the limit for a manifest$/);
    });
  });
});

describe('a pull of attachments from a registry with a certificate of its own and a password', () => {
  it('shows the login and trusts the certificate of the images, and no other', async () => {
    await using guarded = await startRegistry({ near: set.store, tls: true, password: true });
    const [reference = ''] = await guarded.add(set.store, [set.images.release, att, sbom, ...bundles, list]);
    const source = { tlsVerify: true, caFile: guarded.caFile, authFile: guarded.authFile };
    const { report } = await tryPull(await newFolder(), [reference], { attachments: true, source });
    assert.equal(report.outcome, 'complete', JSON.stringify(report));
    assert.deepEqual(report.images[0]?.attached, attachedTo());
  });
});
