import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { matchesIdentity } from '../../../agent/signatures/identity.ts';
import { parsePolicy, policyEntryOf, type SignedIdentity } from '../../../agent/signatures/policy.ts';
import { thrownBy } from '../../support/thrown.ts';

const HEX = 'a'.repeat(64);
const KEY = Buffer.from('a key');
const FILE = '/etc/containers/policy.json';
const signed = (more: object = {}): object => ({ type: 'sigstoreSigned', keyData: KEY.toString('base64'), ...more });

/** A policy with one scope. */
function policyOf(scope: string, requirement: object): string {
  return JSON.stringify({ default: [{ type: 'reject' }], transports: { docker: { [scope]: [requirement] }, atomic: { x: 'anything' } } });
}

test('each requirement is read with its keys and its identity, and what is not checked here is named', () => {
  const entryOf = (requirement: object): unknown =>
    policyEntryOf(parsePolicy(policyOf('', requirement), FILE), 'quay.io/a/b:1').requirements[0];
  assert.deepEqual(entryOf({ type: 'insecureAcceptAnything' }), { kind: 'accept' });
  assert.deepEqual(entryOf({ type: 'reject' }), { kind: 'reject' });
  assert.deepEqual(entryOf(signed()), {
    kind: 'signed',
    by: 'sigstore',
    keys: [{ data: KEY }],
    identity: { kind: 'matchRepoDigestOrExact' },
  });
  assert.deepEqual(
    entryOf({
      type: 'signedBy',
      keyType: 'GPGKeys',
      keyPaths: ['/a', '/b'],
      signedIdentity: { type: 'remapIdentity', prefix: 'x', signedPrefix: 'y' },
    }),
    {
      kind: 'signed',
      by: 'gpg',
      keys: [{ path: '/a' }, { path: '/b' }],
      identity: { kind: 'remapIdentity', prefix: 'x', signedPrefix: 'y' },
    },
  );
  assert.deepEqual(entryOf({ type: 'signedBy', keyPath: '/a', signedIdentity: { type: 'exactReference', dockerReference: 'q/a:1' } }), {
    kind: 'signed',
    by: 'gpg',
    keys: [{ path: '/a' }],
    identity: { kind: 'exactReference', name: 'q/a:1' },
  });
  assert.deepEqual(entryOf(signed({ signedIdentity: { type: 'exactRepository', dockerRepository: 'q/a' } })), {
    kind: 'signed',
    by: 'sigstore',
    keys: [{ data: KEY }],
    identity: { kind: 'exactRepository', name: 'q/a' },
  });
  assert.deepEqual(entryOf(signed({ keyDatas: [KEY.toString('base64')], signedIdentity: { type: 'matchExact' } })), {
    kind: 'signed',
    by: 'sigstore',
    keys: [{ data: KEY }, { data: KEY }],
    identity: { kind: 'matchExact' },
  });
  assert.deepEqual(entryOf({ type: 'sigstoreSigned', fulcio: {}, rekorPublicKeyData: 'x' }), {
    kind: 'unknown',
    what: 'sigstoreSigned with fulcio',
    by: 'sigstore',
  });
  assert.deepEqual(entryOf({ type: 'signedBaseLayer' }), { kind: 'unknown', what: 'signedBaseLayer', by: 'gpg' });
});

test('the most precise scope decides, then that of all registries, then the default', () => {
  const accept = [{ type: 'insecureAcceptAnything' }];
  const scopeOf = (scopes: readonly string[], name: string): string => {
    const docker = Object.fromEntries(scopes.map((scope) => [scope, accept]));
    return policyEntryOf(parsePolicy(JSON.stringify({ default: accept, transports: { docker } }), FILE), name).scope;
  };
  const name = `quay.io:8443/a/b@sha256:${HEX}`;
  assert.equal(scopeOf([name, 'quay.io:8443/a/b', 'quay.io:8443/a'], name), name);
  assert.equal(scopeOf(['quay.io:8443/a/b', 'quay.io:8443/a', 'quay.io:8443'], name), 'quay.io:8443/a/b');
  assert.equal(scopeOf(['quay.io:8443/a', 'quay.io:8443', ''], name), 'quay.io:8443/a');
  assert.equal(scopeOf(['quay.io:8443', '*.io:8443'], name), 'quay.io:8443');
  assert.equal(scopeOf(['*.b.example', '*.example', ''], 'a.b.example/x:1'), '*.b.example');
  assert.equal(scopeOf(['*.example', ''], 'a.b.example/x:1'), '*.example');
  assert.equal(scopeOf([''], name), '');
  assert.equal(scopeOf(['quay.io:8443/a/bc', 'quay.io'], name), 'default');
  assert.deepEqual(policyEntryOf(parsePolicy('{"default":[{"type":"reject"}]}', FILE), 'a.b/c:1'), {
    file: FILE,
    scope: 'default',
    requirements: [{ kind: 'reject' }],
  });
});

describe('a policy is refused with every fault and its place', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ['that is not JSON', '{', `${FILE}: document: is not JSON`],
    ['without a default', '{}', `${FILE}: default: is missing`],
    [
      'with a key that is there twice',
      '{\n\t"default": [{"type": "reject"}],\n\t"transports": {"docker": {"q.io/a": [{"type": "reject"}], "q.io/a": [{"type": "insecureAcceptAnything"}]}}\n}',
      `${FILE}: line 3: duplicate key`,
    ],
    ['with a key that engines do not know', '{"default":[{"type":"reject"}],"transport":{}}', `${FILE}: transport: is not known`],
    ['with an empty list', '{"default":[]}', `${FILE}: default: has no requirement`],
    ['without a key', policyOf('x', { type: 'signedBy' }), `${FILE}: transports.docker.x.0: signedBy has no key`],
    [
      'with a key that is not base64',
      policyOf('x', { type: 'sigstoreSigned', keyData: '?' }),
      `${FILE}: transports.docker.x.0.keyData: is not base64`,
    ],
  ];
  for (const [title, text, message] of cases) {
    it(title, () => {
      assert.deepEqual(
        thrownBy(() => parsePolicy(text, FILE)),
        {
          code: 'ERR_POLICY_FILE',
          message,
          remedy: 'Correct the file, which the engines of this node cannot read either; see containers-policy.json(5)',
        },
      );
    });
  }
});

describe('a signed name goes with a pulled one', () => {
  const digest = `sha256:${HEX}`;
  const cases: readonly (readonly [SignedIdentity, string, string, boolean])[] = [
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/a:1', 'q.io/a:1', true],
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/a:2', 'q.io/a:1', false],
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/a:2', `q.io/a@${digest}`, true],
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/a', `q.io/a@${digest}`, false],
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/b:1', `q.io/a@${digest}`, false],
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/a:1', 'q.io/a', false],
    [{ kind: 'matchRepoDigestOrExact' }, 'not a name', 'q.io/a:1', false],
    [{ kind: 'matchRepoDigestOrExact' }, 'q.io/a:1', 'NOT A NAME', false],
    [{ kind: 'matchExact' }, 'q.io/a:1', 'q.io/a:1', true],
    [{ kind: 'matchExact' }, 'q.io/a:2', `q.io/a@${digest}`, false],
    [{ kind: 'matchExact' }, 'q.io/a', 'q.io/a:latest', false],
    [{ kind: 'matchExact' }, 'q.io/a:latest', 'q.io/a', false],
    [{ kind: 'matchRepository' }, 'q.io/a', 'q.io/a:1', true],
    [{ kind: 'matchRepository' }, 'q.io/b:1', 'q.io/a:1', false],
    [{ kind: 'exactReference', name: 'q.io/b:1' }, 'q.io/b:1', 'q.io/a:1', true],
    [{ kind: 'exactReference', name: 'q.io/b:1' }, 'q.io/a:1', 'q.io/a:1', false],
    [{ kind: 'exactReference', name: 'NOT A NAME' }, 'q.io/a:1', 'q.io/a:1', false],
    [{ kind: 'exactRepository', name: 'q.io/b' }, 'q.io/b:7', 'q.io/a:1', true],
    [{ kind: 'exactRepository', name: 'q.io/b' }, 'q.io/a:7', 'q.io/a:1', false],
    [{ kind: 'exactRepository', name: 'NOT A NAME' }, 'q.io/a:7', 'q.io/a:1', false],
    [{ kind: 'remapIdentity', prefix: 'mine.io/m', signedPrefix: 'q.io/x' }, 'q.io/x/a:1', 'mine.io/m/a:1', true],
    [{ kind: 'remapIdentity', prefix: 'mine.io/m', signedPrefix: 'q.io/x' }, 'q.io/x:1', 'mine.io/m:1', true],
    [{ kind: 'remapIdentity', prefix: 'mine.io/m', signedPrefix: 'q.io/x' }, 'q.io/x/a:1', 'mine.io/mm/a:1', false],
    [{ kind: 'remapIdentity', prefix: 'mine.io/m', signedPrefix: 'q.io/x' }, 'other.io/a:1', 'other.io/a:1', true],
    [{ kind: 'remapIdentity', prefix: 'mine.io/m:1', signedPrefix: 'q.io/x:1' }, 'q.io/x:1', 'mine.io/m:1', true],
    [{ kind: 'remapIdentity', prefix: 'mine.io', signedPrefix: 'NOT A NAME' }, 'q.io/x:1', 'mine.io/m:1', false],
  ];
  for (const [identity, signedName, pulled, expected] of cases)
    it(`${JSON.stringify(identity)}: ${signedName} for ${pulled} is ${expected}`, () =>
      assert.equal(matchesIdentity(identity, signedName, pulled), expected));
});
