import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { loginSecrets } from '../../../agent/status/known-secrets.ts';
import { redact } from '../../../agent/status/redact.ts';

const KEY = '-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\nAwEHoUQD\n-----END EC PRIVATE KEY-----';

const cases: Readonly<Record<string, readonly (readonly [string, string])[]>> = {
  'a login of a registry': [
    ['{"auths":{"quay.io":{"auth":"dXNlcjpwYXNz","email":"a@b.c"}}}', '{"auths":{"quay.io":{"auth":"[redacted]","email":"a@b.c"}}}'],
    ['{"auths":{"q":{"identitytoken": "a\\"b", "x": 1}}}', '{"auths":{"q":{"identitytoken": "[redacted]", "x": 1}}}'],
  ],
  'the user of an address': [
    ['proxy = "http://user:pa%20ss@proxy.example:3128"', 'proxy = "http://[redacted]@proxy.example:3128"'],
    ['Get https://token@quay.io/v2/ failed', 'Get https://[redacted]@quay.io/v2/ failed'],
  ],
  'what a header authorizes': [
    ['Authorization: Bearer abcdefgh.ijk', 'Authorization: Bearer [redacted]'],
    ["--header 'Proxy-Authorization: Basic dXNlcjpwYXNz'", "--header 'Proxy-Authorization: Basic [redacted]'"],
  ],
  'the value of a key that is named for a secret': [
    ['HTTP_PASSWORD=two words', 'HTTP_PASSWORD=[redacted]'],
    ["export REGISTRY_TOKEN='a b'\nLABEL=data", "export REGISTRY_TOKEN='[redacted]'\nLABEL=data"],
    ['env = ["API_KEY=abc def", "A=b"]', 'env = ["API_KEY=[redacted]", "A=b"]'],
    ['client_secret: abc\nnext: 1', 'client_secret: [redacted]\nnext: 1'],
    ['/login?token=abc&user=me', '/login?token=[redacted]&user=me'],
  ],
  'a token by its form': [['kubelet eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl said', 'kubelet [redacted] said']],
  'a private key': [
    [`before\n${KEY}\nafter`, 'before\n[redacted]\nafter'],
    [`before\n${KEY.slice(0, 50)}`, 'before\n[redacted]'],
    [`${KEY.slice(20)}\nafter`, '[redacted]\nafter'],
    [`{"key":"${KEY.replaceAll('\n', '\\n')}","a":1}`, '{"key":"[redacted]","a":1}'],
    [`data:,${encodeURIComponent(KEY)} x`, 'data:,[redacted] x'],
    [`data:;base64,${Buffer.from(KEY).toString('base64')} x`, 'data:;base64,[redacted] x'],
  ],
};

describe('redacted is', () => {
  for (const [what, pairs] of Object.entries(cases)) {
    it(what, () =>
      assert.deepEqual(
        pairs.map(([text]) => redact(text, [])),
        pairs.map(([, without]) => without),
      ),
    );
  }

  it('a secret of this machine, wherever it stands', () => {
    assert.equal(
      redact('pull of x failed with S3CR3T-x (S3CR3T)', ['S3CR3T', 'S3CR3T-x', 'of']),
      'pull of x failed with [redacted] ([redacted])',
    );
  });
});

it('what says why a pull failed stays', () => {
  const lines = [
    'unauthorized: authentication required',
    'ERR_PULL_LOGIN: A registry wants a login, or another one',
    'authfile=/run/containers/0/auth.json',
    '{"reference":"quay.io/example/token:v1","state":"failed"}',
    'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef',
  ];
  assert.deepEqual(
    lines.map((line) => redact(line, [])),
    lines,
  );
});

it('a text that was redacted is not changed by doing it again, and JSON stays JSON', () => {
  const keys = fc.constantFrom('password', 'auth', 'token', 'name', 'Authorization');
  const values = fc.oneof(fc.string(), fc.constantFrom('Bearer abcdefghijk', 'http://a:b@c/', KEY, '[redacted]', '"', "'"));
  fc.assert(
    fc.property(fc.dictionary(keys, fc.oneof(values, fc.dictionary(keys, values))), (value) => {
      const once = redact(JSON.stringify(value, undefined, 1), []);
      assert.doesNotThrow(() => JSON.parse(once), once);
      assert.equal(redact(once, []), once);
    }),
  );
});

it('a hostile text takes no longer than its length', () => {
  for (const part of ['a-', 'token', 'eyJ', 'http://', '-----BEGIN PRIVATE KEY-----', '"password": "']) {
    const startMs = performance.now();
    redact(part.repeat(2 ** 20 / part.length), []);
    assert.ok(performance.now() - startMs < 10_000, part);
  }
});

it('the secrets of a login are its text, what that says, and the password in it', () => {
  const auth = Buffer.from('user:pass:word').toString('base64');
  assert.deepEqual(loginSecrets(JSON.stringify({ auths: { 'quay.io': { auth, identitytoken: 'idt' } } })), [
    auth,
    'user:pass:word',
    'pass:word',
    'idt',
  ]);
});
