import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { imageEntries, readOciLayout } from '../../../../agent/extract/oci-layout.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { BUNDLE_FILE, type Bundle, parseBundle, signaturePath } from '../../../../agent/model/bundle.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';
import { parseReference } from '../../../../agent/model/reference.ts';
import { registryRepository, treeBlobPath, treeRepositoryPath } from '../../../../agent/model/registry-path.ts';
import { signatureTag } from '../../../../agent/signatures/attachment.ts';
import { readSignatures } from '../../../../agent/signatures/bundle-signatures.ts';
import { judge } from '../../../../agent/signatures/judge.ts';
import { openshiftPolicy } from '../../../../agent/signatures/openshift.ts';
import { type Policy, parsePolicy } from '../../../../agent/signatures/policy.ts';
import { verify } from '../../../../agent/verify/verify.ts';
import { makeSandbox } from '../../../support/agent.ts';
import { hashesBelow, listOf, runBuild, storesUnavailable } from '../../../support/build.ts';
import { runnableRoot } from '../../../support/image-files.ts';
import { makeLayer } from '../../../support/image-layer.ts';
import { type MadeImage, makeImage, makeIndex, writeOciLayout } from '../../../support/images.ts';
import { attachSignatures, makeSigningKey } from '../../../support/signing.ts';

const unavailable = storesUnavailable();
const RELEASE = 'quay.io/openshift-release-dev/ocp-release';

/** What containers-storage records of an image with signatures: how long they are. Source: containers/image, storage/storage_dest.go. */
const SIGNED = /-sizes":(?:\{"[^"]+":)?\[\d/;

function recordsOf(text: string): readonly { names?: readonly string[]; metadata?: string }[] {
  return JSON.parse(text);
}

describe('a bundle of signed images', { skip: unavailable ?? false }, () => {
  let work: string;
  let pulled: string;
  let built: string;
  let bundle: Bundle;
  let list: MadeImage;
  let plain: MadeImage;
  let attachments: readonly MadeImage[];
  const key = makeSigningKey('rsa');

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'build-signatures-'));
    const base = await makeLayer(work, await runnableRoot(['sh']));
    const instance = async (architecture: string): Promise<MadeImage> =>
      await makeImage(work, { name: RELEASE, format: 'oci', layers: [base], architecture });
    list = await makeIndex(work, {
      name: RELEASE,
      tag: '4.22.1-x86_64',
      format: 'oci',
      instances: [await instance('amd64'), await instance('arm64')],
    });
    plain = await makeImage(work, { name: 'quay.io/example/tool', tag: 'v1', format: 'oci', layers: [base] });
    attachments = await attachSignatures(work, list, { key, reference: `${RELEASE}:4.22.1-x86_64` });
    pulled = await layoutOf('pulled', [list, plain, ...attachments]);
    built = join(work, 'built');
    await runBuild({ from: pulled, to: built, payloads: ['store', 'oci', 'registry'] });
    bundle = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const layoutOf = async (name: string, images: readonly MadeImage[]): Promise<string> => {
    const directory = join(work, name);
    await mkdir(directory);
    await writeOciLayout(work, images, directory);
    await writeFile(join(directory, 'ocp-images.txt'), listOf([list, plain]));
    return directory;
  };
  const amd64 = () => list.instances.find(({ architecture }) => architecture === 'amd64')?.manifest.digest ?? list.digest;
  const attachment = (): MadeImage => attachments.find(({ reference }) => reference.endsWith(signatureTag(amd64()))) ?? list;

  it('names the signatures of the instance that is kept, and no image for them', () => {
    const images = bundle.stages.installed?.images ?? [];
    assert.deepEqual(
      images.map(({ reference, instanceDigest, signatures }) => ({ reference, instanceDigest, signatures })),
      [
        {
          reference: `${RELEASE}:4.22.1-x86_64`,
          instanceDigest: amd64(),
          signatures: [{ kind: 'sigstore', subject: amd64(), manifest: attachment().digest }],
        },
        { reference: 'quay.io/example/tool:v1', instanceDigest: undefined, signatures: undefined },
      ],
    );
    const own = attachment();
    const blobs = [own.digest, ...own.instances.flatMap(({ layers }) => layers.map(({ digest }) => digest))];
    assert.deepEqual(
      bundle.files.filter(({ path }) => path.startsWith('signatures/')).map(({ path }) => path),
      blobs.map(signaturePath).toSorted(),
    );
  });

  it('gives signatures that a policy with the key accepts', async () => {
    const [image] = bundle.stages.installed?.images ?? [];
    assert.ok(image);
    const [found] = await readSignatures(built, image);
    const requirement = {
      kind: 'signed' as const,
      by: 'sigstore' as const,
      keys: [{ data: key.publicPem }],
      identity: { kind: 'matchRepoDigestOrExact' as const },
    };
    const entry = { file: 'policy.json', scope: RELEASE, requirements: [requirement] };
    const tools = { readKey: async () => Buffer.alloc(0), openGpg: async () => '' };
    const judged = { fullName: image.reference, digest: amd64(), signatures: found?.held ?? [] };
    assert.deepEqual(await judge(entry, judged, tools), { accepted: true });
  });

  it('is verified against a policy: which names a node takes, and why it refuses the others', async () => {
    const host = linuxHost({ root: '/', env: {}, log: () => undefined });
    const verified = async (policy: Policy) =>
      (await verify(host, { path: built, mode: 'quick', label: 'data', parallel: 1, policy, signal: new AbortController().signal })).policy;
    const demanding = (pem: Buffer): Policy =>
      parsePolicy(
        JSON.stringify({
          default: [{ type: 'insecureAcceptAnything' }],
          transports: { docker: { [RELEASE]: [{ type: 'sigstoreSigned', keyData: pem.toString('base64') }] } },
        }),
        'policy.json',
      );
    assert.deepEqual(await verified(demanding(key.publicPem)), { policy: 'policy.json', accepted: 2, refused: [] });
    const refused = (reason: string) => [{ stage: 'installed', name: `${RELEASE}:4.22.1-x86_64`, scope: RELEASE, reason }];
    assert.deepEqual(await verified(demanding(makeSigningKey().publicPem)), {
      policy: 'policy.json',
      accepted: 1,
      refused: refused('the signature was made with another key'),
    });
    const openshift = openshiftPolicy('4.22.1');
    assert.ok(openshift);
    assert.deepEqual(await verified(openshift), {
      policy: 'the policy of OpenShift 4.22.1',
      accepted: 1,
      refused: refused('the signature was made with another key'),
    });
    const spoilt = join(built, signaturePath(attachment().digest));
    const whole = await readFile(spoilt);
    await writeFile(spoilt, 'other bytes');
    const found = await verified(demanding(key.publicPem));
    await writeFile(spoilt, whole);
    assert.equal(found?.refused.length, 1);
    assert.match(found?.refused[0]?.reason ?? '', /is not the signature in the manifest of the bundle: it has the digest /);
  });

  it('has them in the layout, in the registry tree and in the metadata tree under the tag of what is signed', async () => {
    const entries = await readOciLayout(join(built, 'oci'));
    assert.deepEqual(
      entries.filter((entry) => !imageEntries(entries).includes(entry)).map(({ reference, digest }) => [reference, digest]),
      [[`${RELEASE}:${signatureTag(amd64())}`, attachment().digest]],
    );
    const repository = treeRepositoryPath(registryRepository(parseReference(RELEASE)));
    for (const tree of ['registry', 'store/installed.mirror']) {
      const link = await readFile(join(built, tree, repository, `_manifests/tags/${signatureTag(amd64())}/current/link`), 'utf8');
      assert.equal(link, attachment().digest);
      for (const { layers } of attachment().instances)
        for (const { digest } of layers) assert.ok(existsSync(join(built, tree, treeBlobPath(digest))), `${tree} ${digest}`);
    }
  });

  it('keeps them with the image in the store, and has the same bytes when it is built again', async () => {
    const mounted = join(work, 'mounted');
    await mkdir(mounted);
    await output(execOnLinux, 'mount', ['-o', 'loop,ro', join(built, 'store/installed.squashfs'), mounted]);
    try {
      const records = recordsOf(await readFile(join(mounted, 'overlay-images/images.json'), 'utf8'));
      const signed = records.filter(({ metadata }) => SIGNED.test(metadata ?? ''));
      assert.deepEqual(
        signed.flatMap(({ names }) => names ?? []),
        [`${RELEASE}:4.22.1-x86_64`],
      );
    } finally {
      await output(execOnLinux, 'umount', [mounted]);
    }
    const again = join(work, 'again');
    await runBuild({ from: pulled, to: again, payloads: ['store', 'oci', 'registry'], sourceDateEpoch: 1_700_000_000 });
    const twice = join(work, 'twice');
    await runBuild({ from: pulled, to: twice, payloads: ['store', 'oci', 'registry'], sourceDateEpoch: 1_700_000_000 });
    assert.deepEqual(await hashesBelow(again), await hashesBelow(twice));
  });

  it('brings them into the storage of a node with the image, and loads an image whose signature is damaged without it', async () => {
    const signedNames = async (graphroot: string) =>
      recordsOf(await readFile(join(graphroot, 'overlay-images/images.json'), 'utf8'))
        .filter(({ metadata }) => SIGNED.test(metadata ?? ''))
        .flatMap(({ names }) => names ?? []);
    const loaded = async () => {
      await using sandbox = await makeSandbox();
      const args = ['run', '--stage', 'installed', '--bundle', built, '--delivery', 'extract', '--output', 'json'];
      const { exitCode, stderr } = await sandbox.agent(args);
      assert.equal(exitCode, 0, stderr);
      return { names: await signedNames(sandbox.graphroot), stderr };
    };
    assert.deepEqual((await loaded()).names, [`${RELEASE}:4.22.1-x86_64`]);
    const spoilt = join(built, signaturePath(attachment().digest));
    const whole = await readFile(spoilt);
    await writeFile(spoilt, 'other bytes');
    const without = await loaded();
    await writeFile(spoilt, whole);
    assert.deepEqual(without.names, []);
    assert.match(without.stderr, /is loaded without its signatures: .* it has the digest /);
  });

  it('warns without a signature that the release demands, fails if it is required, and takes it when it is there', async () => {
    const message = `1 images have no signature in the folder to build from, but clusters of OpenShift 4.22.1 demand one; first: ${RELEASE}:4.22.1-x86_64`;
    const from = await layoutOf('unsigned', [list, plain]);
    const warned = await runBuild({ from, to: join(work, 'warned') });
    assert.ok(
      warned.messages.some((line) => line.startsWith(`warning: ${message}`)),
      warned.messages.join('\n'),
    );
    const failed = await runBuild({ from, to: join(work, 'failed'), requiresSignatures: true }).then(() => assert.fail(), errorRecord);
    assert.deepEqual(failed, {
      code: 'ERR_BUILD_UNSIGNED',
      message,
      remedy: 'Pull again from a source that has the signatures: prestage-agent pull --signatures require',
    });
    const signed = await runBuild({ from: pulled, to: join(work, 'signed'), requiresSignatures: true });
    assert.deepEqual(
      signed.messages.filter((line) => line.startsWith('warning') && line.includes('signature')),
      [],
    );
    const later = await layoutOf('later', [list, plain, ...attachments]);
    const grown = await runBuild({ from: later, to: join(work, 'warned') });
    assert.equal(grown.report.outcome, 'built');
  });
});
