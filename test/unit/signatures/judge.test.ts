import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import type { Digest } from '../../../agent/model/digest.ts';
import { parseAttachment, SIGNATURES_LIMIT, signatureTag, signedByTag } from '../../../agent/signatures/attachment.ts';
import { type HeldSignature, type JudgeTools, judge } from '../../../agent/signatures/judge.ts';
import type { PolicyEntry, Requirement } from '../../../agent/signatures/policy.ts';
import { attachmentOf, makeSigningKey, payloadOf, type SigningKey, signatureOf } from '../../support/signing.ts';
import { thrownBy } from '../../support/thrown.ts';

const DIGEST: Digest = `sha256:${'a'.repeat(64)}`;
const OTHER: Digest = `sha256:${'b'.repeat(64)}`;
const NAME = `quay.io/a/b@${DIGEST}`;
const KEYS = { rsa: makeSigningKey('rsa'), ec: makeSigningKey('ec'), ed25519: makeSigningKey('ed25519') };

const tools: JudgeTools = {
  readKey: async (path) => Buffer.from(path === '/keys/ec.pub' ? KEYS.ec.publicPem : ''),
  openGpg: async (message) => (message.length === 0 ? 'the signature was made with another key' : message),
};

function entryOf(...requirements: readonly Requirement[]): PolicyEntry {
  return { file: '/etc/containers/policy.json', scope: 'quay.io/a', requirements };
}

function demandOf(key: SigningKey): Requirement {
  return { kind: 'signed', by: 'sigstore', keys: [{ data: key.publicPem }], identity: { kind: 'matchRepoDigestOrExact' } };
}

function signatureBy(key: SigningKey, digest: Digest = DIGEST, name = 'quay.io/a/b:1'): HeldSignature {
  const payload = payloadOf(digest, name);
  return { kind: 'sigstore', payload, signature: signatureOf(payload, key) };
}

const verdictOf = async (entry: PolicyEntry, ...signatures: readonly HeldSignature[]): Promise<unknown> =>
  await judge(entry, { fullName: NAME, digest: DIGEST, signatures }, tools);
const refused = (reason: string): unknown => ({ accepted: false, reason });

for (const [name, key] of Object.entries(KEYS))
  test(`a signature by a key of ${name} is accepted, and by another key refused`, async () => {
    assert.deepEqual(await verdictOf(entryOf(demandOf(key)), signatureBy(key)), { accepted: true });
    assert.deepEqual(
      await verdictOf(entryOf(demandOf(key)), signatureBy(makeSigningKey())),
      refused('the signature was made with another key'),
    );
  });

describe('an image is', () => {
  const gpg: Requirement = { kind: 'signed', by: 'gpg', keys: [{ path: '/keys/gpg' }], identity: { kind: 'matchRepository' } };
  const gpgText = Buffer.from(
    payloadOf(DIGEST, 'quay.io/a/b').toString().replace('cosign container image signature', 'atomic container signature'),
  );
  const unsigned = payloadOf(DIGEST, 'quay.io/a/b:1');
  const cases: readonly (readonly [string, PolicyEntry, readonly HeldSignature[], unknown])[] = [
    ['taken if nothing is demanded', entryOf({ kind: 'accept' }), [], { accepted: true }],
    ['refused if all are', entryOf({ kind: 'reject' }), [], refused('the policy rejects every image of this name')],
    [
      'refused without a signature',
      entryOf(demandOf(KEYS.ec)),
      [],
      refused('the policy requires a sigstore signature, but the image has none'),
    ],
    [
      'refused with a signature of the other kind alone',
      entryOf(gpg),
      [signatureBy(KEYS.ec)],
      refused('the policy requires a GPG signature, but the image has none'),
    ],
    [
      'refused with a signature of another digest',
      entryOf(demandOf(KEYS.ec)),
      [signatureBy(KEYS.ec, OTHER)],
      refused(`the signature is for ${OTHER}`),
    ],
    [
      'refused with a signature of another repository',
      entryOf(demandOf(KEYS.ec)),
      [signatureBy(KEYS.ec, DIGEST, 'quay.io/a/c:1')],
      refused('the signature is for the name "quay.io/a/c:1"'),
    ],
    [
      'taken by one good signature among bad ones',
      entryOf(demandOf(KEYS.ec)),
      [signatureBy(KEYS.rsa), signatureBy(KEYS.ec)],
      { accepted: true },
    ],
    [
      'refused with every reason once',
      entryOf(demandOf(KEYS.ec)),
      [signatureBy(KEYS.rsa), signatureBy(KEYS.rsa), signatureBy(KEYS.ec, OTHER)],
      refused(`the signature was made with another key; the signature is for ${OTHER}`),
    ],
    [
      'refused if one of two demands is not met',
      entryOf(demandOf(KEYS.ec), demandOf(KEYS.rsa)),
      [signatureBy(KEYS.ec)],
      refused('the signature was made with another key'),
    ],
    [
      'refused where the attachment lacks the signature',
      entryOf(demandOf(KEYS.ec)),
      [{ kind: 'sigstore', payload: unsigned, signature: undefined }],
      refused('the signature was made with another key'),
    ],
    [
      'refused with a demand that is not checked here',
      entryOf({ kind: 'unknown', what: 'sigstoreSigned with fulcio', by: 'sigstore' }),
      [signatureBy(KEYS.ec)],
      refused('the policy requires sigstoreSigned with fulcio, which the agent cannot check'),
    ],
    ['taken by a GPG signature', entryOf(gpg), [{ kind: 'gpg', message: gpgText }], { accepted: true }],
    [
      'refused by a GPG signature of another key',
      entryOf(gpg),
      [{ kind: 'gpg', message: Buffer.alloc(0) }],
      refused('the signature was made with another key'),
    ],
    [
      'refused if the text of a GPG signature is that of a sigstore signature',
      entryOf(gpg),
      [{ kind: 'gpg', message: unsigned }],
      refused(
        'the signed text is not a valid signature payload: critical.type: Invalid type: Expected "atomic container signature" but received "cosign container image signature"',
      ),
    ],
  ];
  for (const [title, entry, signatures, expected] of cases)
    it(title, async () => assert.deepEqual(await verdictOf(entry, ...signatures), expected));
});

test('a key file that the policy names is read, and one that is not a key checks nothing', async () => {
  const byPath = (path: string): Requirement => ({
    kind: 'signed',
    by: 'sigstore',
    keys: [{ path }],
    identity: { kind: 'matchRepository' },
  });
  assert.deepEqual(await verdictOf(entryOf(byPath('/keys/ec.pub')), signatureBy(KEYS.ec)), { accepted: true });
  assert.deepEqual(
    await verdictOf(entryOf(byPath('/keys/none')), signatureBy(KEYS.ec)),
    refused('the signature was made with another key'),
  );
});

test('a signed text with a field that engines do not know is refused', async () => {
  const payload = Buffer.from(payloadOf(DIGEST, 'quay.io/a/b:1').toString().replace('"type"', '"more":1,"type"'));
  const signature: HeldSignature = { kind: 'sigstore', payload, signature: signatureOf(payload, KEYS.ec) };
  const verdict = await verdictOf(entryOf(demandOf(KEYS.ec)), signature);
  assert.match(JSON.stringify(verdict), /is not a valid signature payload: critical\.more/);
});

test('the signatures of an attachment are read, and layers of other types are passed over', () => {
  const payload = payloadOf(DIGEST, 'quay.io/a/b:1');
  const signature = signatureOf(payload, KEYS.ec);
  const made = attachmentOf([{ payload, signature }]);
  const text = made.manifest.toString().replace('"layers":[', `"layers":[{"mediaType":"text/plain","digest":"${OTHER}","size":3},`);
  const read = parseAttachment(text, NAME);
  assert.deepEqual(
    read.signatures.map((one) => [one.signature, one.sizeBytes, made.blobs.has(one.digest)]),
    [[signature, payload.length, true]],
  );
  assert.equal(signedByTag(signatureTag(DIGEST)), DIGEST);
  for (const tag of ['latest', `sha256-${'a'.repeat(64)}`, `sha256-${'a'.repeat(63)}.sig`, `x-sha256-${'a'.repeat(64)}.sig`])
    assert.equal(signedByTag(tag), undefined);
});

describe('an attachment is refused', () => {
  const one = { payload: payloadOf(DIGEST, 'quay.io/a/b:1'), signature: 'AA==' };
  const good = attachmentOf([one]).manifest.toString();
  const cases: readonly (readonly [string, string, RegExp])[] = [
    ['that is not JSON', 'x', /is not JSON$/],
    [
      'that is an index',
      '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}',
      /is not that of an OCI image manifest/,
    ],
    [
      'with a thousand signatures',
      attachmentOf(Array.from({ length: 1000 }, () => one)).manifest.toString(),
      new RegExp(`has more than ${SIGNATURES_LIMIT} signatures`),
    ],
    [
      'with a payload of 5 MiB',
      good.replace(`"size":${one.payload.length}`, '"size":5242880'),
      /has 5242880 bytes, but engines read no payload above 4194304/,
    ],
  ];
  for (const [title, text, message] of cases) {
    it(title, () => {
      const error = thrownBy(() => parseAttachment(text, NAME));
      assert.equal(error?.code, 'ERR_SIGNATURE');
      assert.match(error?.message ?? '', message);
    });
  }
});
