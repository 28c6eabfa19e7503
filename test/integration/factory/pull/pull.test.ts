import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { layoutImage, linkDirLayout, readOciLayout } from '../../../../agent/extract/oci-layout.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';
import { startConnectProxy } from '../../../support/fault-proxy.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import { neededBlobs, transferBytes, tryPull, wholeBlobs } from '../../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../../support/registry.ts';
import { privateStorage } from '../../../support/storage.ts';

let set: ImageSet;
let registry: Registry;
let work: string;
let references: readonly string[];

before(async () => {
  set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  references = await registry.add(set.store, set.all);
  work = await mkdtemp(join(tmpdir(), 'pull-'));
});
after(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

const codeOfRejection = async (pulled: Promise<unknown>) =>
  await pulled.then(
    () => 'none',
    (error: unknown) => errorRecord(error).code,
  );

describe('a pull into an OCI image layout', () => {
  it('has every image under its full reference and digest, and every blob once and whole', async () => {
    const to = join(work, 'all');
    const { report, fetchedBytes } = await tryPull(to, references, { parallel: 4 });
    assert.deepEqual([report.outcome, report.images.map(({ state }) => state)], ['complete', references.map(() => 'pulled')]);
    assert.deepEqual(
      (await readOciLayout(to)).map(({ reference, digest }) => [reference, digest]),
      set.all.map((image, index) => [references[index], image.digest]),
    );
    assert.deepEqual(await wholeBlobs(to), neededBlobs(set.all));
    assert.deepEqual([fetchedBytes, report.fetchBytes], [transferBytes(set.all), transferBytes(set.all)]);
    assert.deepEqual((await readdir(to)).sort(), ['absent-instances.json', 'blobs', 'index.json', 'oci-layout', 'ocp-images.txt']);
  });

  it('gives every platform, and images that other tools load and run', async () => {
    const to = join(work, 'all');
    const { indexByTag, otherArchitecture, zstd, release } = set.images;
    for (const architecture of ['amd64', 'arm64']) {
      const found = await layoutImage(to, otherArchitecture.digest, architecture);
      const made = otherArchitecture.instances.find((instance) => instance.architecture === architecture);
      assert.deepEqual([found.manifestDigest, found.instances], [made?.manifest.digest, 2]);
    }
    const raw = await output(execOnLinux, 'skopeo', [
      'inspect',
      '--raw',
      `oci:${to}:${localReference(registry.host, indexByTag.reference)}`,
    ]);
    assert.equal(raw, await readFile(join(set.store, 'blobs', indexByTag.digest.replace(':', '/')), 'utf8'));
    await using storage = await privateStorage();
    for (const image of [release, zstd, otherArchitecture]) {
      const view = join(work, `view-${image.digest}`);
      await linkDirLayout(to, image.digest, view);
      await output(execOnLinux, 'skopeo', ['copy', '--quiet', '--preserve-digests', `dir:${view}`, storage.name(image.reference)]);
    }
    assert.equal(await storage.run(zstd.reference, ['cat', '/etc/prestage-image']), 'zstd');
    assert.equal(await storage.run(otherArchitecture.reference, ['cat', '/etc/prestage-image']), 'other-architecture');
  });

  it('fetches nothing the second time, and leaves the same bytes', async () => {
    const to = join(work, 'all');
    const before = await readFile(join(to, 'index.json'), 'utf8');
    const { report, fetchedBytes } = await tryPull(to, references);
    assert.deepEqual([report.outcome, fetchedBytes, report.keptBytes], ['complete', 0, transferBytes(set.all)]);
    assert.deepEqual(new Set(report.images.map(({ state }) => state)), new Set(['kept']));
    assert.equal(await readFile(join(to, 'index.json'), 'utf8'), before);
  });

  it('fetches again only the blob whose bytes have changed at equal size', async () => {
    const to = join(work, 'all');
    const [layer] = set.images.oci.instances[0]?.layers.slice(-1) ?? [];
    assert.ok(layer);
    const path = join(to, 'blobs/sha256', layer.digest.slice(7));
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
    await writeFile(path, bytes);
    const { report, fetchedBytes } = await tryPull(to, references);
    assert.deepEqual([report.outcome, fetchedBytes], ['complete', layer.sizeBytes]);
    assert.deepEqual(await wholeBlobs(to), neededBlobs(set.all));
  });

  it('needs no registry for digests that are there', async () => {
    await using own = await startRegistry({ near: set.store });
    const [reference = ''] = await own.add(set.store, [set.images.otherArchitecture]);
    const to = join(work, 'offline');
    await tryPull(to, [reference]);
    await own[Symbol.asyncDispose]();
    const { report } = await tryPull(to, [reference]);
    assert.deepEqual([report.outcome, report.images.map(({ state }) => state)], ['complete', ['kept']]);
  });

  it('replaces the image of a tag that has moved, and keeps what other lists pulled', async () => {
    const to = join(work, 'moved');
    const { agent, release } = set.images;
    const [tag, other] = [localReference(registry.host, agent.reference), localReference(registry.host, release.reference)] as const;
    await tryPull(to, [tag, other]);
    const moved = { ...set.images.zstd, reference: agent.reference };
    await registry.add(set.store, [moved]);
    try {
      await tryPull(to, [tag]);
    } finally {
      await registry.add(set.store, [agent]);
    }
    assert.deepEqual(
      (await readOciLayout(to)).map(({ reference, digest }) => [reference, digest]),
      [
        [other, release.digest],
        [tag, moved.digest],
      ],
    );
    await layoutImage(to, moved.digest, 'amd64');
  });

  it('writes nothing in a dry run, and says what it would fetch', async () => {
    const to = join(work, 'dry');
    const { report } = await tryPull(to, references, { isDry: true });
    assert.deepEqual([report.outcome, report.fetchBytes], ['planned', transferBytes(set.all)]);
    assert.deepEqual(await readdir(work).then((names) => names.includes('dry')), false);
    const sizes = report.images.reduce((sum, image) => sum + (image.fetchBytes ?? 0), 0);
    assert.equal(sizes, transferBytes(set.all));
  });

  it('refuses an index that it cannot read, and a second pull at the same time', async () => {
    const to = join(work, 'foreign');
    await mkdir(to);
    await writeFile(join(to, 'index.json'), '{"pages":[]}');
    assert.equal(await codeOfRejection(tryPull(to, references)), 'ERR_LAYOUT');
    assert.equal(await readFile(join(to, 'index.json'), 'utf8'), '{"pages":[]}');
    const busy = join(work, 'busy');
    const codes = await Promise.all([tryPull(busy, references), tryPull(busy, references)].map(codeOfRejection));
    assert.deepEqual(codes.sort(), ['ERR_LOCKED', 'none']);
  });
});

describe('a pull from a registry with a certificate of its own and a password', () => {
  let guarded: Registry;
  let wanted: readonly string[];
  before(async () => {
    guarded = await startRegistry({ near: set.store, tls: true, password: true });
    wanted = await guarded.add(set.store, [set.images.agent, set.images.release]);
  });
  after(async () => await guarded[Symbol.asyncDispose]());

  it('comes with both', async () => {
    const to = join(work, 'guarded');
    const source = { tlsVerify: true, caFile: guarded.caFile, authFile: guarded.authFile };
    const { report } = await tryPull(to, wanted, { source });
    assert.equal(report.outcome, 'complete');
    assert.deepEqual(await wholeBlobs(to), neededBlobs([set.images.agent, set.images.release]));
  });

  for (const [code, what] of [
    ['ERR_PULL_TLS', 'the certificate'],
    ['ERR_PULL_LOGIN', 'the password'],
  ] as const) {
    it(`fails without ${what}, at once and by its own code`, async () => {
      const source = { tlsVerify: true, ...(code === 'ERR_PULL_LOGIN' ? { caFile: guarded.caFile } : { authFile: guarded.authFile }) };
      const { report, events } = await tryPull(join(work, code), wanted, { source });
      assert.deepEqual([report.outcome, report.images.map(({ error }) => error?.code)], ['failed', [code, code]]);
      assert.deepEqual(
        events.filter(({ kind }) => kind === 'image-retried'),
        [],
      );
    });
  }

  it('goes through a proxy', async () => {
    await using proxy = await startConnectProxy(guarded.port);
    const named = wanted.map((reference) => reference.replace(guarded.host, 'registry.example.com'));
    const authFile = join(work, 'auth.json');
    await writeFile(authFile, (await readFile(guarded.authFile, 'utf8')).replace(guarded.host, 'registry.example.com'));
    const source = { tlsVerify: true, caFile: guarded.caFile, authFile, proxy: proxy.url };
    const { report } = await tryPull(join(work, 'proxied'), named, { source });
    assert.equal(report.outcome, 'complete');
    assert.deepEqual(new Set(proxy.asked), new Set(['registry.example.com:443']));
  });
});
