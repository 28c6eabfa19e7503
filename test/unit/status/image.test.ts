import assert from 'node:assert/strict';
import { createServer, type RequestListener } from 'node:http';
import { describe, it, test } from 'node:test';
import { imageText } from '../../../agent/cli/image-text.ts';
import { parseRegistries } from '../../../agent/engine/registries-file.ts';
import { type Digest, digestOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { parseReference } from '../../../agent/model/reference.ts';
import { askRegistry } from '../../../agent/registry/serve/ask-registry.ts';
import { answerImage } from '../../../agent/status/image-answer.ts';
import type { ImageFacts, PlaceFacts, PolicyFacts } from '../../../agent/status/image-facts.ts';
import { pulledReference, pullPlaces } from '../../../agent/status/image-places.ts';
import type { Unseen } from '../../../agent/status/look.ts';

const DIGEST: Digest = `sha256:${'a'.repeat(64)}`;
const NAME = 'quay.io/a/b:1';
const UNSEEN: Unseen = { kind: 'unseen', reason: 'this user may not read it', remedy: 'Ask as root' };
const MIRROR: PlaceFacts = { name: `127.0.0.1:305/${NAME}`, kind: 'mirror', answer: { kind: 'has', digest: DIGEST } };
const SOURCE: PlaceFacts = { name: NAME, kind: 'source', answer: { ...UNSEEN, reason: 'quay.io was not looked at' } };
const POLICY: PolicyFacts = {
  file: '/etc/containers/policy.json',
  engines: ['podman', 'CRI-O'],
  scope: 'quay.io/a',
  verdict: { kind: 'accepted', signatures: [{ by: 'sigstore', name: NAME, digest: DIGEST }] },
};
const FACTS: ImageFacts = {
  fullName: NAME,
  places: { kind: 'seen', value: [MIRROR] },
  policies: [POLICY],
  stored: { kind: 'seen', value: false },
};

describe('the answer for one image', () => {
  const text = (facts: Partial<ImageFacts>): string => imageText(answerImage({ ...FACTS, ...facts }), (_style, words) => words);
  const refused: PolicyFacts = { ...POLICY, verdict: { kind: 'refused', reason: 'it has none', remedy: 'Sign it' } };

  it('names mirror, policy, entry and signature', () => {
    assert.equal(
      text({}),
      [
        `taken: a pull takes it from the mirror 127.0.0.1:305/${NAME}`,
        'next:      Nothing to do',
        `image:     ${NAME}`,
        'storage:   does not have it',
        `asked:     mirror 127.0.0.1:305/${NAME}: has ${DIGEST}`,
        `policy:    /etc/containers/policy.json, "quay.io/a", of podman and CRI-O: accepts it by the sigstore signature of "${NAME}" (${DIGEST})`,
      ].join('\n'),
    );
  });

  it('says in one line why a policy refuses it, and that storage has it all the same', () => {
    const stored = { kind: 'seen', value: true } as const;
    assert.equal(
      text({ policies: [refused], stored }),
      [
        'refused: podman and CRI-O would refuse it because of /etc/containers/policy.json, "quay.io/a": it has none; storage already has the image, and using that copy needs no pull',
        'next:      Sign it',
        `image:     ${NAME}`,
        'storage:   has it',
        `asked:     mirror 127.0.0.1:305/${NAME}: has ${DIGEST}`,
        'policy:    /etc/containers/policy.json, "quay.io/a", of podman and CRI-O: refuses it: it has none',
      ].join('\n'),
    );
    const { image } = answerImage({ ...FACTS, policies: [refused] });
    assert.deepEqual(
      [image.exitCode, image.reason],
      [13, 'podman and CRI-O would refuse it because of /etc/containers/policy.json, "quay.io/a": it has none'],
    );
    assert.doesNotMatch(answerImage({ ...FACTS, policies: [refused], stored: UNSEEN }).image.reason, /storage/);
  });

  it('is unknown where the first place that may have it was not looked at', () => {
    const gone: PlaceFacts = { ...MIRROR, answer: { kind: 'not', reason: 'it does not have the image' } };
    const { scope: _scope, ...noEntry } = POLICY;
    assert.equal(
      text({
        places: { kind: 'seen', value: [gone, SOURCE] },
        policies: [{ ...noEntry, engines: ['CRI-O'], namespace: 'team', verdict: UNSEEN }],
        stored: UNSEEN,
      }),
      [
        'unknown: quay.io was not looked at',
        'next:      Ask as root',
        `image:     ${NAME}`,
        `asked:     mirror 127.0.0.1:305/${NAME}: it does not have the image`,
        `asked:     source ${NAME}: not looked at`,
        'policy:    /etc/containers/policy.json, of CRI-O (pods of the namespace team): not known: this user may not read it',
        'not seen:  containers-storage: this user may not read it',
      ].join('\n'),
    );
  });

  const verdict = (facts: Partial<ImageFacts>): readonly unknown[] => {
    const { image } = answerImage({ ...FACTS, ...facts });
    return [image.verdict, image.exitCode, image.from, image.reason];
  };
  const stored = { kind: 'seen', value: true } as const;
  const plain: PolicyFacts = { ...POLICY, verdict: { kind: 'accepted', signatures: [] } };
  const unseenPolicy: PolicyFacts = { ...POLICY, verdict: UNSEEN };
  const storage = { kind: 'storage', name: NAME };

  it('is taken from storage where a pull is not known to give it, unless a policy of a namespace asks for its signatures', () => {
    const places = { kind: 'seen', value: [SOURCE] } as const;
    assert.deepEqual(verdict({ places, stored, policies: [plain] }), [
      'taken',
      0,
      storage,
      'it is in storage, and engines use it without a pull; what a pull would do is unknown: quay.io was not looked at',
    ]);
    assert.equal(verdict({ places, stored, policies: [unseenPolicy] })[0], 'taken');
    assert.equal(verdict({ places, stored, policies: [{ ...unseenPolicy, namespace: 'team' }] })[0], 'unknown');
    assert.equal(verdict({ places, stored, policies: [{ ...plain, namespace: 'team' }] })[0], 'taken');
    const not: PlaceFacts = { ...SOURCE, answer: { kind: 'not', reason: 'it is blocked' } };
    assert.deepEqual(verdict({ places: { kind: 'seen', value: [not] }, stored, policies: [unseenPolicy] }), [
      'taken',
      0,
      storage,
      'it is in storage, and engines use it without a pull; no source or mirror has it',
    ]);
    assert.deepEqual(verdict({ places: { kind: 'seen', value: [not] }, stored: UNSEEN }), [
      'absent',
      4,
      undefined,
      `no source or mirror has it: ${NAME}: it is blocked`,
    ]);
  });

  it('is unknown where registries or the policy were not looked at', () => {
    assert.deepEqual(verdict({ places: UNSEEN }), ['unknown', 12, undefined, UNSEEN.reason]);
    assert.deepEqual(verdict({ policies: [unseenPolicy] }), ['unknown', 12, undefined, UNSEEN.reason]);
    assert.match(
      text({ places: UNSEEN, policies: [plain] }),
      /accepts it without a signature\nnot seen: {2}the registries that a pull asks: this user/,
    );
  });
});

describe('the places that a pull asks', () => {
  const placesOf = (toml: string, reference: string): readonly string[] =>
    pullPlaces(parseRegistries(toml, '/f').entries, pulledReference(parseReference(reference))).map(
      ({ name, kind, blockedBy }) => `${kind} ${name}${blockedBy === undefined ? '' : ` blocked by ${blockedBy}`}`,
    );

  it('are mirrors in their order and then the source, each by its own name, with mirrors of the right kind alone', () => {
    const toml = `[[registry]]
prefix = "quay.io/a"
location = "far.example/a"
blocked = true
[[registry.mirror]]
location = "one.example/x"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "two.example"
pull-from-mirror = "tag-only"
[[registry.mirror]]
location = "127.0.0.1:305/quay.io/a"
[[registry]]
location = "far.example"
blocked = true
`;
    const source = 'source far.example/a/b';
    assert.deepEqual(placesOf(toml, 'quay.io/a/b'), [
      'mirror two.example/b:latest',
      'mirror 127.0.0.1:305/quay.io/a/b:latest',
      `${source}:latest blocked by /f`,
    ]);
    assert.deepEqual(placesOf(toml, `quay.io/a/b:1@${DIGEST}`), [
      `mirror one.example/x/b@${DIGEST}`,
      `mirror 127.0.0.1:305/quay.io/a/b@${DIGEST}`,
      `${source}@${DIGEST} blocked by /f`,
    ]);
    assert.deepEqual(placesOf(toml, 'other.example/c:2'), ['source other.example/c:2']);
    const byDigest = '[[registry]]\nlocation = "quay.io"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.example"\n';
    assert.deepEqual(placesOf(byDigest, 'quay.io/a:1'), ['source quay.io/a:1']);
    assert.deepEqual(placesOf(byDigest, `quay.io/a@${DIGEST}`), [`mirror m.example/a@${DIGEST}`, `source quay.io/a@${DIGEST}`]);
  });
});

test('a registry is believed within limits of size, time and digest, and only 404 means that it has nothing', async () => {
  const answer: RequestListener = (request, response) => {
    const name = request.url?.split('/').at(-1) ?? '';
    if (name === 'silent') return;
    if (name === 'broken') return void response.writeHead(200, { 'content-length': 9 }).write('abc', () => response.destroy());
    response.statusCode = name === 'none' ? 404 : name === 'denied' ? 401 : 200;
    response.end(name === 'large' ? Buffer.alloc(2000) : 'abc');
  };
  const server = createServer(answer).listen(0, '127.0.0.1');
  try {
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    const ask = async (name: string) =>
      await askRegistry(
        { host: '127.0.0.1', port: address.port, timeoutMs: 500 },
        { repository: 'a', name, kind: 'manifests', limitBytes: 1000 },
      );
    assert.deepEqual(await ask('good'), { digest: digestOf('abc'), bytes: Buffer.from('abc') });
    assert.equal(await ask('none'), undefined);
    for (const [name, what] of [
      ['denied', 'it answers with 401'],
      ['large', 'it answers with more than 1000 bytes'],
      ['silent', 'no answer within 500 ms'],
      ['broken', 'aborted'],
      [DIGEST, `it answers with bytes of ${digestOf('abc')}`],
    ] as const) {
      const { code, message } = await ask(name).then(() => assert.fail(`${name} was believed`), errorRecord);
      assert.deepEqual(
        [code, message],
        ['ERR_REGISTRY_START', `/v2/a/manifests/${name} cannot be read from the registry at 127.0.0.1:${address.port}: ${what}`],
      );
    }
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
