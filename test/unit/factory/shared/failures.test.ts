import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTransient, pullFailure } from '../../../../agent/factory/shared/failures.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';

const HEX = 'b3a094ed142fb2fe8d572c01d357845611c6c2a8f863087cd1da337383432dd5';
const fatal = (message: string) =>
  `Copying blob sha256:404\ntime="2026-11-21T09:15:10Z" level=fatal msg="${message.replaceAll('"', '\\"')}"\n`;
const of = (message: string) => pullFailure('quay.io/a/b:v1', { exitCode: 1, stderr: fatal(message) });

/** Messages of skopeo 1.9.3, taken from runs against distribution 2.8 and a proxy that injects faults. */
const MESSAGES = [
  ['ERR_PULL_LOGIN', 'reading manifest v1 in quay.io/a/b: unauthorized: authentication required'],
  [
    'ERR_PULL_LOGIN',
    `reading blob sha256:${HEX}: unable to retrieve auth token: invalid username/password: unauthorized: authentication required`,
  ],
  ['ERR_PULL_DENIED', 'reading manifest v1 in quay.io/a/b: StatusCode: 403, injected'],
  ['ERR_PULL_DENIED', `reading blob sha256:${HEX}: Error fetching blob: invalid status code from registry 403 (Forbidden)`],
  ['ERR_PULL_DENIED', 'reading manifest v1 in quay.io/a/b: denied: requested access to the resource is denied'],
  ['ERR_PULL_MISSING', 'reading manifest v1 in quay.io/a/b: manifest unknown: manifest unknown'],
  ['ERR_PULL_MISSING', 'reading manifest v1 in quay.io/a/b: StatusCode: 404, injected'],
  ['ERR_PULL_MISSING', `reading blob sha256:${HEX}: Error fetching blob: invalid status code from registry 404 (Not Found)`],
  ['ERR_PULL_LIMIT', 'reading manifest v1 in quay.io/a/b: toomanyrequests: You have reached your pull rate limit'],
  ['ERR_PULL_LIMIT', 'reading manifest v1 in quay.io/a/b: StatusCode: 429, injected'],
  ['ERR_PULL_SERVER', 'reading manifest v1 in quay.io/a/b: received unexpected HTTP status: 500 Internal Server Error'],
  ['ERR_PULL_SERVER', `reading blob sha256:${HEX}: Error fetching blob: invalid status code from registry 503 (Service Unavailable)`],
  [
    'ERR_PULL_NETWORK',
    'pinging container registry quay.io: Get "https://quay.io/v2/": dial tcp: lookup quay.io on 10.0.0.1:53: no such host',
  ],
  [
    'ERR_PULL_NETWORK',
    'pinging container registry 127.0.0.1:1: Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
  ],
  [
    'ERR_PULL_NETWORK',
    'Get "http://quay.io/v2/a/b/manifests/v1": read tcp 127.0.0.1:42370->127.0.0.1:32893: read: connection reset by peer',
  ],
  ['ERR_PULL_NETWORK', 'Get "http://quay.io/v2/a/b/manifests/v1": EOF'],
  ['ERR_PULL_NETWORK', 'Get "https://quay.io/v2/": net/http: TLS handshake timeout'],
  ['ERR_PULL_TLS', 'pinging container registry quay.io: Get "https://quay.io/v2/": x509: certificate signed by unknown authority'],
  ['ERR_PULL_TLS', 'pinging container registry quay.io: Get "https://quay.io/v2/": http: server gave HTTP response to HTTPS client'],
  ['ERR_PULL_DIGEST', `writing blob: happened during read: Digest did not match, expected sha256:${HEX}, got sha256:${HEX}`],
  [
    'ERR_PULL_DIGEST',
    `determining manifest MIME type for docker://quay.io/a/b@sha256:${HEX}: Manifest does not match provided manifest digest sha256:${HEX}`,
  ],
  ['ERR_PULL_POLICY', 'Source image rejected: Running image docker://quay.io/a/b:v1 is rejected by policy.'],
  ['ERR_PULL', 'something that nobody has seen yet'],
] as const;

describe('the failure of a pull', () => {
  for (const [code, message] of MESSAGES) {
    it(`is ${code} where skopeo says: ${message.slice(0, 110)}`, () => assert.equal(of(message).code, code));
  }

  it('names the image, what happened, and what skopeo said', () => {
    assert.deepEqual(errorRecord(of('reading manifest v1 in quay.io/a/b: manifest unknown: manifest unknown')), {
      code: 'ERR_PULL_MISSING',
      message: 'quay.io/a/b:v1: the registry has no such image: reading manifest v1 in quay.io/a/b: manifest unknown: manifest unknown',
      remedy: 'Correct the list, or mirror the image to that registry first',
    });
  });

  it('is not taken from the name of a repository', () => {
    assert.equal(of('reading manifest forbidden in quay.io/eof/not-found: StatusCode: 500, x').code, 'ERR_PULL_SERVER');
    assert.equal(of('parsing docker://quay.io/x509:/unauthorized:eof something new').code, 'ERR_PULL');
  });

  it('says how skopeo ended where it said nothing', () => {
    const error = pullFailure('quay.io/a/b:v1', { exitCode: 137, stderr: '' });
    assert.equal(error.message, 'quay.io/a/b:v1: skopeo failed with exit code 137: no message');
    const stopped = pullFailure('quay.io/a/b:v1', { exitCode: 143, endedBy: 'timed out after 60 s', stderr: '' });
    assert.equal(stopped.message, 'quay.io/a/b:v1: skopeo timed out after 60 s: no message');
  });

  it('is worth another try where network, load or the server is to blame, and not otherwise', () => {
    const transient = new Set(MESSAGES.filter(([, message]) => isTransient(of(message))).map(([code]) => code));
    assert.deepEqual([...transient].sort(), ['ERR_PULL_LIMIT', 'ERR_PULL_NETWORK', 'ERR_PULL_SERVER']);
    assert.equal(isTransient(new Error('another')), false);
  });
});
