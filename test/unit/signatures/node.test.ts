import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, it, test } from 'node:test';
import { imageEntries } from '../../../agent/extract/oci-layout.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { signaturePath } from '../../../agent/model/bundle.ts';
import { type Digest, digestOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { readSignatures } from '../../../agent/signatures/bundle-signatures.ts';
import { commonPolicy, missingPolicy, readNodePolicies } from '../../../agent/signatures/node-policy.ts';
import { planRegistriesD } from '../../../agent/signatures/own-registries-d.ts';
import { parsePolicy } from '../../../agent/signatures/policy.ts';
import { mergeRegistriesD, signatureSourceOf } from '../../../agent/signatures/registries-d.ts';
import { unshownRepositories } from '../../../agent/signatures/unshown.ts';
import { attachmentOf, makeSigningKey, payloadOf, signatureOf } from '../../support/signing.ts';
import { thrownBy } from '../../support/thrown.ts';

const DIGEST: Digest = `sha256:${'a'.repeat(64)}`;
const HEX = 'a'.repeat(64);

describe('the files of registries.d', () => {
  const merge = (...texts: readonly string[]): ReturnType<typeof mergeRegistriesD> =>
    mergeRegistriesD(texts.map((text, index) => ({ file: `/etc/containers/registries.d/${index}.yaml`, text })));

  it('are merged, and the most precise scope alone decides', () => {
    const merged = merge(
      'default-docker:\n  lookaside: https://all.example\n',
      'docker:\n  quay.io/a:\n    use-sigstore-attachments: true\n  quay.io/a/b:\n    sigstore: https://old.example\n  127.0.0.1:855:\n    use-sigstore-attachments: true\n',
      '',
    );
    assert.deepEqual(signatureSourceOf(merged, `quay.io/c@sha256:${HEX}`), {
      lookaside: 'https://all.example',
      usesAttachments: false,
      file: '/etc/containers/registries.d/0.yaml',
    });
    assert.equal(signatureSourceOf(merged, 'quay.io/a/c:1').usesAttachments, true);
    assert.equal(signatureSourceOf(merged, 'quay.io/a/c:1').lookaside, undefined);
    assert.equal(signatureSourceOf(merged, 'quay.io/a/b:1').lookaside, 'https://old.example');
    assert.equal(signatureSourceOf(merged, 'quay.io/a/b:1').usesAttachments, false);
    assert.equal(signatureSourceOf(merged, '127.0.0.1:855/quay.io/a/b:1').usesAttachments, true);
    assert.deepEqual(signatureSourceOf(merge(), 'quay.io/a:1'), { lookaside: undefined, usesAttachments: false });
  });

  it('are refused with every key that two of them have, and with what cannot be read', () => {
    const scope = 'docker:\n  quay.io/a:\n    use-sigstore-attachments: true\n';
    const standard = 'default-docker: {}\n';
    assert.deepEqual(
      thrownBy(() => merge(scope + standard, scope + standard, 'docker: [\n', 'docker: 7\n')),
      {
        code: 'ERR_REGISTRIES_D',
        message: [
          'the files of registries.d cannot be used: 4 faults',
          '/etc/containers/registries.d/0.yaml and /etc/containers/registries.d/1.yaml both have default-docker',
          '/etc/containers/registries.d/0.yaml and /etc/containers/registries.d/1.yaml both have the key "quay.io/a"',
          '/etc/containers/registries.d/2.yaml: Flow sequence in block collection must be sufficiently indented and end with a ] at line 2, column 1:',
          '/etc/containers/registries.d/3.yaml: docker: Invalid type: Expected Object but received 7',
        ].join('\n'),
        remedy: 'Correct the files; until then every pull on this machine fails. See containers-registries.d(5)',
      },
    );
  });
});

test('the file of ours has a key for each registry that no other file has, with our lookaside if there is one', () => {
  const lookaside = 'file:///run/prestage-agent/lookaside';
  const addresses = ['127.0.0.1:305', '192.0.2.1:8443'];
  const [one = '', two = ''] = addresses;
  const foreign = (text: string) => ({ merged: mergeRegistriesD([{ file: '/other.yaml', text }]) });
  const key = (address: string, ...lines: readonly string[]): string => `  "${address}":\n${lines.map((line) => `    ${line}\n`).join('')}`;
  const attachments = 'use-sigstore-attachments: true';
  const head = '# mark\n# Signatures lie beside the images that the registries of prestage-agent serve.\ndocker:\n';
  const planned = (text: string, own: string | undefined) => planRegistriesD({ addresses, lookaside: own }, foreign(text), '# mark');
  const beside = `lookaside: "${lookaside}"`;
  assert.deepEqual(planned('', undefined), {
    kind: 'write',
    content: head + key(one, attachments) + key(two, attachments),
  });
  assert.deepEqual(planned('', lookaside), {
    kind: 'write',
    content: head + key(one, attachments, beside) + key(two, attachments, beside),
  });
  const taken = (...lines: readonly string[]): string => `docker:\n${key(one, ...lines)}`;
  assert.deepEqual(planned(taken(attachments, beside), lookaside), { kind: 'write', content: head + key(two, attachments, beside) });
  assert.deepEqual(planned(taken(beside), lookaside), {
    kind: 'refused',
    reason: `/other.yaml has the key "${one}" without use-sigstore-attachments`,
  });
  const both = (...lines: readonly string[]): string => taken(...lines) + key(two, ...lines);
  assert.deepEqual(planned(both(attachments, beside), lookaside), { kind: 'there', file: '/other.yaml', hasLookaside: true });
  assert.deepEqual(planned(both(attachments), lookaside), { kind: 'there', file: '/other.yaml', hasLookaside: false });
  const fault = { code: 'ERR_REGISTRIES_D' as const, message: 'two files have one key', remedy: 'Correct them' };
  assert.deepEqual(planRegistriesD({ addresses, lookaside }, { fault }, '# mark'), { kind: 'refused', reason: fault.message });
});

describe('below a directory of its own', () => {
  const inside = async (files: Readonly<Record<string, string | Buffer>>, act: (root: string) => Promise<void>): Promise<void> => {
    const root = await mkdtemp(join(tmpdir(), 'prestage-signatures-'));
    try {
      for (const [path, content] of Object.entries(files)) {
        await mkdir(dirname(join(root, path)), { recursive: true });
        await writeFile(join(root, path), content);
      }
      await act(root);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  };

  it('the policies of all engines of a node are read, and a faulty one is told', async () => {
    const accept = '{"default":[{"type":"insecureAcceptAnything"}]}';
    const files = { 'etc/containers/policy.json': accept, 'etc/crio/policies/team.json': '{', 'etc/crio/policies/note.txt': 'x' };
    await inside(files, async (root) => {
      const { policies, faults } = await readNodePolicies(linuxHost({ root, log: () => undefined, env: {} }));
      assert.deepEqual(
        policies.map(({ file }) => file),
        ['/etc/containers/policy.json'],
      );
      assert.deepEqual(
        faults.map(({ code, message }) => [code, message]),
        [['ERR_POLICY_FILE', '/etc/crio/policies/team.json: document: is not JSON']],
      );
    });
    await inside({}, async (root) => {
      assert.deepEqual(await readNodePolicies(linuxHost({ root, log: () => undefined, env: {} })), { policies: [], faults: [] });
    });
  });

  it('the policy of the vendor counts if there is none of the administrator, and below a root of its own none is missed', async () => {
    const [accept, reject] = ['insecureAcceptAnything', 'reject'].map((type) => JSON.stringify({ default: [{ type }] }));
    const vendor = { 'usr/share/containers/policy.json': accept ?? '' };
    const readFrom = async (files: Readonly<Record<string, string>>) => {
      let found: readonly unknown[] = [];
      await inside(files, async (root) => {
        const host = linuxHost({ root, log: () => undefined, env: {} });
        const { policies } = await readNodePolicies(host);
        found = [policies.map(({ file }) => file), await commonPolicy(host), await missingPolicy(host)];
      });
      return found;
    };
    const [own, shared] = ['/etc/containers/policy.json', '/usr/share/containers/policy.json'];
    assert.deepEqual(await readFrom(vendor), [[shared], shared, undefined]);
    assert.deepEqual(await readFrom({ ...vendor, 'etc/containers/policy.json': reject ?? '' }), [[own], own, undefined]);
    assert.deepEqual(await readFrom({}), [[], undefined, undefined]);
  });

  it('the signatures of an image are read out of its bundle, and each file is held against its digest', async () => {
    const key = makeSigningKey();
    const payload = payloadOf(DIGEST, 'quay.io/a/b:1');
    const signature = signatureOf(payload, key);
    const made = attachmentOf([{ payload, signature }]);
    const gpg = Buffer.from('an OpenPGP message');
    const image = {
      reference: 'quay.io/a/b:1',
      signatures: [
        { kind: 'sigstore' as const, subject: DIGEST, manifest: made.digest },
        { kind: 'gpg' as const, subject: DIGEST, file: digestOf(gpg) },
      ],
    };
    const files = Object.fromEntries(
      [...made.blobs, [digestOf(gpg), gpg] as const].map(([digest, bytes]) => [signaturePath(digest), bytes]),
    );
    await inside(files, async (root) => {
      const [read] = await readSignatures(root, image);
      assert.equal(read?.subject, DIGEST);
      assert.equal(read?.attachment?.digest, made.digest);
      assert.deepEqual(read?.held, [
        { kind: 'sigstore', payload, signature },
        { kind: 'gpg', message: gpg },
      ]);
      assert.deepEqual(await readSignatures(root, { reference: 'quay.io/a/c:1' }), []);
      await writeFile(join(root, signaturePath(digestOf(gpg))), 'other bytes');
      const error = await readSignatures(root, image).then(() => assert.fail(), errorRecord);
      assert.equal(error.code, 'ERR_BUNDLE_FILE');
      assert.match(error.message, new RegExp(`it has the digest ${digestOf('other bytes')}$`));
      await rm(join(root, signaturePath(digestOf(gpg))));
      await symlink('/dev/zero', join(root, signaturePath(digestOf(gpg))));
      const linked = await readSignatures(root, image).then(() => assert.fail(), errorRecord);
      assert.match(linked.message, /of the bundle: it is missing, or is not a regular file of at most 4194304 bytes$/);
      await rm(join(root, signaturePath(made.digest)));
      assert.equal((await readSignatures(root, image).then(() => assert.fail(), errorRecord)).code, 'ERR_BUNDLE_FILE');
    });
  });
});

test('a tag that only looks like that of a signature is one of an image, and one key twice in a file of registries.d is a fault', () => {
  const entryOf = (tag: string) => ({ reference: `quay.io/a/b:${tag}`, digest: DIGEST, sizeBytes: 1, mediaType: '' });
  const [image, shorter, signature] = [`sha256-${HEX}`, `sha256-${HEX.slice(1)}.sig`, `sha256-${HEX}.sig`].map(entryOf);
  assert.ok(image && shorter && signature);
  assert.deepEqual(imageEntries([image, shorter, signature]), [image, shorter]);
  const twice = 'docker:\n  quay.io/a: {}\n  quay.io/a:\n    use-sigstore-attachments: true\n';
  const error = thrownBy(() => mergeRegistriesD([{ file: '/r.yaml', text: twice }]));
  assert.equal(error.code, 'ERR_REGISTRIES_D');
  assert.match(error.message, /\/r\.yaml: Map keys must be unique/);
});

test('a repository is named whose policy demands what the mirror cannot show, once, with its first image', async () => {
  const key = makeSigningKey();
  const policyOf = (file: string, docker: object): { file: string; text: string } => ({
    file,
    text: JSON.stringify({ default: [{ type: 'reject' }], transports: { docker } }),
  });
  const demand = [{ type: 'sigstoreSigned', keyData: key.publicPem.toString('base64') }];
  const main = policyOf('/etc/containers/policy.json', { 'quay.io/a': demand, '': [{ type: 'insecureAcceptAnything' }] });
  const space = policyOf('/etc/crio/policies/team.json', { 'quay.io/c': demand, 'quay.io/a': [{ type: 'reject' }] });
  const payload = payloadOf(DIGEST, 'quay.io/a/signed:1');
  const held = [{ kind: 'sigstore' as const, payload, signature: signatureOf(payload, key) }];
  const image = (name: string, signatures: typeof held | [] = []) => ({ names: [name], digest: DIGEST, signatures });
  const found = await unshownRepositories(
    [main, space].map(({ file, text }) => parsePolicy(text, file)),
    [
      image('quay.io/c/x:1'),
      image('quay.io/a/signed:1', held),
      image('quay.io/a/plain:1'),
      image('quay.io/a/plain:2', held),
      image('quay.io/b/free:1'),
    ],
    { readKey: async () => Buffer.alloc(0), openGpg: async () => '' },
  );
  assert.deepEqual(found, [
    {
      repository: 'quay.io/a/plain',
      file: '/etc/containers/policy.json',
      scope: 'quay.io/a',
      image: 'quay.io/a/plain:1',
      reason: 'the policy requires a sigstore signature, but the image has none',
      refused: 2,
    },
    {
      repository: 'quay.io/c/x',
      file: '/etc/crio/policies/team.json',
      scope: 'quay.io/c',
      image: 'quay.io/c/x:1',
      reason: 'the policy requires a sigstore signature, but the image has none',
      refused: 1,
    },
  ]);
});
