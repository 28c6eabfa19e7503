import assert from 'node:assert/strict';
import { lstat, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { imageEntries, readOciLayout } from '../../../../agent/extract/oci-layout.ts';
import { ABSENT_FILE } from '../../../../agent/factory/pull/absent-record.ts';
import { signatureTag } from '../../../../agent/signatures/attachment.ts';
import { type Fault, type FaultProxy, startFaultProxy } from '../../../support/fault-proxy.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import type { MadeImage } from '../../../support/images.ts';
import { tryPull, wholeBlobs } from '../../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../../support/registry.ts';
import { attachSignatures, makeSigningKey } from '../../../support/signing.ts';

let set: ImageSet;
let registry: Registry;
let proxy: FaultProxy;
let work: string;
let attachments: readonly MadeImage[];
let signed: string;
let plain: string;

const SIGNATURE_LOOKUP = /^GET .*\/manifests\/sha256-[0-9a-f]{64}\.sig$/;

before(async () => {
  set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  proxy = await startFaultProxy(registry.port);
  await registry.add(set.store, set.all);
  const { otherArchitecture, release } = set.images;
  attachments = await attachSignatures(set.store, otherArchitecture, { key: makeSigningKey('rsa'), reference: 'quay.io/a/b:signed' });
  await registry.add(set.store, attachments);
  signed = localReference(proxy.host, otherArchitecture.reference);
  plain = localReference(proxy.host, release.reference);
  work = await mkdtemp(join(tmpdir(), 'pull-signatures-'));
});
after(async () => {
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

const newFolder = async (): Promise<string> => await mkdtemp(join(work, 'to-'));
const signatureEntries = async (to: string): Promise<readonly (readonly [string, string])[]> => {
  const entries = await readOciLayout(to);
  const images = new Set(imageEntries(entries));
  return entries.filter((entry) => !images.has(entry)).map(({ reference, digest }) => [reference, digest]);
};
const expected = (): readonly (readonly [string, string])[] =>
  attachments
    .map(({ reference, digest }) => [localReference(proxy.host, reference), digest] as const)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));

describe('a pull with signatures', () => {
  it('brings those of every instance of a list, with their blobs, and shows them as no image', async () => {
    const to = await newFolder();
    proxy.set([]);
    const { report } = await tryPull(to, [signed, plain], { signatures: 'auto' });
    assert.equal(report.outcome, 'complete');
    assert.deepEqual(await signatureEntries(to), expected());
    assert.deepEqual(
      imageEntries(await readOciLayout(to)).map(({ reference }) => reference),
      [signed, plain],
    );
    const blobs = await wholeBlobs(to);
    for (const { digest, instances } of attachments)
      for (const needed of [digest, ...instances.flatMap(({ layers }) => layers.map((layer) => layer.digest))])
        assert.ok(blobs.includes(needed));
    const signedDigests = set.images.otherArchitecture.instances.map(({ manifest }) => manifest.digest);
    assert.deepEqual(
      report.images.map((image) => image.signed?.toSorted()),
      [signedDigests.toSorted(), []],
    );
  });

  it('asks for none that it has, and keeps those of other images', async () => {
    const to = await newFolder();
    proxy.set([]);
    await tryPull(to, [signed], { signatures: 'auto' });
    const before = proxy.requests.length;
    const { report } = await tryPull(to, [signed, plain], { signatures: 'auto' });
    assert.equal(report.outcome, 'complete');
    const asked = proxy.requests
      .slice(before)
      .filter((line) => attachments.some(({ reference }) => line.includes(reference.split(':').at(-1) ?? '?')));
    assert.deepEqual(asked, []);
    assert.deepEqual(await signatureEntries(to), expected());
  });

  it('asks for each once, also if two images have one manifest', async () => {
    const to = await newFolder();
    proxy.set([]);
    const before = proxy.requests.length;
    const byDigest = `${plain.replace(/(?::[^/]*)?(?:@.*)?$/, '')}@${set.images.release.digest}`;
    await tryPull(to, [plain, byDigest], { signatures: 'auto' });
    const tag = signatureTag(set.images.release.digest);
    const asked = proxy.requests.slice(before).filter((line) => line.startsWith('GET') && line.endsWith(tag));
    assert.equal(asked.length, 1, asked.join('\n'));
  });

  const lookups = (from: number): readonly string[] => proxy.requests.slice(from).filter((line) => SIGNATURE_LOOKUP.test(line));

  it('asks for nothing twice: what is absent is remembered, until signatures are required', async () => {
    const to = await newFolder();
    proxy.set([]);
    await tryPull(to, [plain], { signatures: 'auto' });
    const again = proxy.requests.length;
    const { report } = await tryPull(to, [plain], { signatures: 'auto' });
    assert.deepEqual([report.outcome, report.images[0]?.signed], ['complete', []]);
    assert.deepEqual(lookups(again), []);
    const required = proxy.requests.length;
    await tryPull(to, [plain], { signatures: 'require' });
    assert.deepEqual(
      lookups(required).map((line) => line.split('/').at(-1)),
      [signatureTag(set.images.release.digest)],
    );
  });

  for (const [what, spoil] of [
    ['is not JSON', async (path: string) => await writeFile(path, '{')],
    ['is of another form', async (path: string) => await writeFile(path, '{"absent":[1]}')],
    [
      'is a link',
      async (path: string) => {
        await rename(path, `${path}.kept`);
        await symlink(`${path}.kept`, path);
      },
    ],
  ] as const)
    it(`asks again if the record of what is absent ${what}, and writes it anew`, async () => {
      const to = await newFolder();
      const path = join(to, ABSENT_FILE);
      proxy.set([]);
      await tryPull(to, [plain], { signatures: 'auto' });
      const record = await readFile(path, 'utf8');
      await spoil(path);
      const before = proxy.requests.length;
      await tryPull(to, [plain], { signatures: 'auto' });
      assert.equal(lookups(before).length, 1);
      assert.ok((await lstat(path)).isFile());
      assert.equal(await readFile(path, 'utf8'), record);
    });

  it('remembers nothing of a look-up that failed', async () => {
    const to = await newFolder();
    proxy.set([{ on: SIGNATURE_LOOKUP, fault: { kind: 'status', status: 403 } }]);
    await tryPull(to, [plain], { signatures: 'auto' });
    proxy.set([]);
    const before = proxy.requests.length;
    const { report } = await tryPull(to, [plain], { signatures: 'auto' });
    assert.deepEqual([report.outcome, lookups(before).length], ['complete', 1]);
  });

  it('asks for none if none are wanted', async () => {
    const to = await newFolder();
    proxy.set([]);
    const before = proxy.requests.length;
    await tryPull(to, [signed, plain], { signatures: 'none' });
    assert.deepEqual(
      proxy.requests.slice(before).filter((line) => SIGNATURE_LOOKUP.test(line)),
      [],
    );
    assert.deepEqual(await signatureEntries(to), []);
  });

  it('fails an image without one if they are required, and no other', async () => {
    const to = await newFolder();
    proxy.set([]);
    const { report } = await tryPull(to, [signed, plain], { signatures: 'require' });
    assert.deepEqual(
      report.images.map(({ state }) => state),
      ['pulled', 'failed'],
    );
    assert.deepEqual(report.images[1]?.error, {
      code: 'ERR_PULL_UNSIGNED',
      message: `${plain}: the registry has no signature of ${set.images.release.digest}`,
      remedy: 'Pull from a source that has the signatures, or give --signatures auto',
    });
  });

  const passing: readonly (readonly [string, Fault, string])[] = [
    ['401', { kind: 'status', status: 401 }, 'ERR_PULL_LOGIN'],
    ['403', { kind: 'status', status: 403 }, 'ERR_PULL_DENIED'],
    ['503', { kind: 'status', status: 503 }, 'ERR_PULL_SERVER'],
    ['a reset', { kind: 'reset' }, 'ERR_PULL_NETWORK'],
  ];
  for (const [what, fault, code] of passing) {
    it(`tries a look-up again after ${what}, and is complete`, async () => {
      const to = await newFolder();
      proxy.set([{ on: SIGNATURE_LOOKUP, times: 1, fault }]);
      const { report, events } = await tryPull(to, [signed], { signatures: 'auto' });
      assert.equal(report.outcome, 'complete');
      assert.ok(events.some((event) => event.kind === 'image-retried' && event.error.code === code));
      assert.deepEqual(await signatureEntries(to), expected());
    });
  }

  const lasting: readonly (readonly [number, string])[] = [
    [401, 'ERR_PULL_LOGIN'],
    [403, 'ERR_PULL_DENIED'],
    [500, 'ERR_PULL_SERVER'],
  ];
  for (const [status, code] of lasting) {
    it(`takes ${status} at every look-up for a fault, not for an absent signature`, async () => {
      const to = await newFolder();
      proxy.set([{ on: SIGNATURE_LOOKUP, fault: { kind: 'status', status } }]);
      const { report } = await tryPull(to, [signed], { signatures: 'auto' });
      assert.deepEqual([report.outcome, report.images[0]?.error?.code], ['failed', code]);
    });
  }

  it('waits when a look-up is asked for fewer requests, and is complete', async () => {
    const to = await newFolder();
    proxy.set([{ on: SIGNATURE_LOOKUP, times: 1, fault: { kind: 'status', status: 429 } }]);
    const { report } = await tryPull(to, [signed], { signatures: 'auto' });
    assert.equal(report.outcome, 'complete');
    assert.deepEqual(await signatureEntries(to), expected());
  });

  it('takes 404 without a word for an absent signature', async () => {
    const to = await newFolder();
    proxy.set([{ on: SIGNATURE_LOOKUP, fault: { kind: 'status', status: 404 } }]);
    const { report } = await tryPull(to, [signed], { signatures: 'auto' });
    assert.deepEqual([report.outcome, report.images[0]?.signed], ['complete', []]);
  });

  it('takes an index, and other bytes, under the tag of a signature for faults', async () => {
    const to = await newFolder();
    const [first] = attachments;
    const index = set.images.otherArchitecture;
    const [repository = '', tag = ''] = (first?.reference ?? '').split(/:(?=sha256-)/);
    await registry.add(set.store, [{ ...index, reference: `${repository}:${tag}` }]);
    proxy.set([]);
    const { report } = await tryPull(to, [signed], { signatures: 'auto' });
    assert.deepEqual([report.outcome, report.images[0]?.error?.code], ['failed', 'ERR_SIGNATURE']);
    await registry.add(set.store, attachments);
    proxy.set([{ on: /^GET .*\/blobs\//, fault: { kind: 'corrupt' } }]);
    const spoilt = await tryPull(await newFolder(), [signed], { signatures: 'auto', retries: 0 });
    assert.equal(spoilt.report.outcome, 'failed');
  });
});
