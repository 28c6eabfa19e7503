import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readChallenge, tokenRequest } from '../../../../agent/factory/web/challenge.ts';
import { imagePlaces } from '../../../../agent/factory/web/image-places.ts';
import { loginIn, parseLogins } from '../../../../agent/factory/web/logins.ts';
import { openRegistryClient } from '../../../../agent/factory/web/registry-client.ts';
import { httpOptions, readCertificates, statusError } from '../../../../agent/factory/web/source-http.ts';
import { PrestageError } from '../../../../agent/model/errors.ts';
import { entryOf, mirrorOf } from '../../../support/registries.ts';
import { thrownBy } from '../../../support/thrown.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');

describe('what a registry wants before it answers', () => {
  it('is a password, or a token from a server of tokens', () => {
    assert.deepEqual(readChallenge('Basic realm="test"', 'a/b'), { kind: 'basic' });
    const header = 'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull"';
    const realm = 'https://auth.example.com/token';
    assert.deepEqual(readChallenge(header, 'c/d'), { kind: 'bearer', realm, service: 'registry', scope: 'repository:a/b:pull' });
    assert.deepEqual(readChallenge(`Bearer realm="${realm}"`, 'c/d'), {
      kind: 'bearer',
      realm,
      service: undefined,
      scope: 'repository:c/d:pull',
    });
    for (const unknown of ['', 'Negotiate', 'Bearer service="x"', 'Basically']) assert.equal(readChallenge(unknown, 'a/b'), undefined);
  });

  it('is asked for with the login that there is, and a refresh token only in the content', () => {
    const challenge = { kind: 'bearer', realm: 'https://auth.example.com/token?a=b', service: 's', scope: 'repository:a/b:pull' } as const;
    const url = new URL('https://auth.example.com/token?a=b&service=s&scope=repository%3Aa%2Fb%3Apull');
    assert.deepEqual(tokenRequest(challenge, undefined), { url, method: 'GET', headers: {} });
    const Authorization = `Basic ${base64('u:p')}`;
    assert.deepEqual(tokenRequest(challenge, { user: 'u', password: 'p' }), { url, method: 'GET', headers: { Authorization } });
    const content = 'service=s&scope=repository%3Aa%2Fb%3Apull&grant_type=refresh_token&refresh_token=t&client_id=prestage-agent';
    assert.deepEqual(tokenRequest({ ...challenge, realm: 'https://x/' }, { identityToken: 't' }), {
      url: new URL('https://x/'),
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': String(content.length) },
      content,
    });
    const bare = tokenRequest({ ...challenge, service: undefined, realm: 'http://x/' }, undefined);
    assert.equal(bare?.url.href, 'http://x/?scope=repository%3Aa%2Fb%3Apull');
    for (const realm of ['', 'ftp://x/', 'file:///etc/passwd']) assert.equal(tokenRequest({ ...challenge, realm }, undefined), undefined);
  });
});

describe('the login of a repository', () => {
  it('is the one of the most precise name, however that is written', () => {
    const auths = {
      'quay.io': { auth: base64('all:p') },
      'quay.io/a': { auth: base64('some:p:q\0') },
      'https://index.docker.io/v1/': { auth: base64('hub:p') },
      'token.example.com': { identitytoken: 't' },
      'empty.example.com': {},
      'null.example.com': null,
    };
    const file = parseLogins(JSON.stringify({ auths }), 'auth.json');
    assert.deepEqual(loginIn(file, 'quay.io/a/b'), { user: 'some', password: 'p:q' });
    assert.deepEqual(loginIn(file, 'quay.io/b/a'), { user: 'all', password: 'p' });
    assert.deepEqual(loginIn(file, 'docker.io/library/busybox'), { user: 'hub', password: 'p' });
    assert.deepEqual(loginIn(file, 'token.example.com/a'), { identityToken: 't' });
    for (const name of ['empty.example.com/a', 'null.example.com/a', 'other/a', 'quay.io.example.com/a'])
      assert.equal(loginIn(file, name), undefined);
    assert.equal(thrownBy(() => parseLogins('[', 'auth.json')).code, 'ERR_PULL_LOGIN');
  });
});

describe('where an image comes from', () => {
  const placeOf = (name: string, isInsecure = false) => ({
    name,
    registry: name.slice(0, name.indexOf('/')),
    repository: name.slice(name.indexOf('/') + 1),
    isInsecure,
  });
  it('is its source, or the mirrors before it, as registries.conf has them', () => {
    assert.deepEqual(imagePlaces({ entries: [] }, 'quay.io/a/b'), [placeOf('quay.io/a/b')]);
    const mirrors = [mirrorOf('m.example.com:5000/x', { insecure: true }), mirrorOf('tags.example.com', { pullFromMirror: 'tag-only' })];
    const entry = entryOf('quay.io/a', { mirrors });
    assert.deepEqual(imagePlaces({ entries: [entry] }, 'quay.io/a/b'), [placeOf('m.example.com:5000/x/b', true), placeOf('quay.io/a/b')]);
    assert.deepEqual(imagePlaces({ entries: [{ ...entry, blocked: true }] }, 'quay.io/a/b'), [placeOf('m.example.com:5000/x/b', true)]);
  });
});

describe('how a web server is asked beside skopeo', () => {
  it('is by the proxy that is given, and loopback by none', () => {
    const { env } = httpOptions(
      { NO_PROXY: 'example.com', HTTP_PROXY: 'http://other' },
      { tlsVerify: true, proxy: 'http://p' },
      { ca: undefined },
    );
    assert.deepEqual([env.HTTP_PROXY, env.https_proxy, env.no_proxy], ['http://p', 'http://p', 'example.com,localhost,127.0.0.1,[::1]']);
    const plain = httpOptions({ HTTP_PROXY: 'http://other' }, { tlsVerify: true }, { ca: 'pem' });
    assert.deepEqual([plain.env.HTTP_PROXY, plain.env.no_proxy, plain.ca], ['http://other', 'localhost,127.0.0.1,[::1]', 'pem']);
  });

  it('is with the certificates of a directory', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'certificates-'));
    try {
      for (const name of ['b.crt', 'a.crt', 'lone.cert', 'own.cert', 'own.key']) await writeFile(join(directory, name), name);
      assert.deepEqual(await readCertificates(directory), { ca: 'a.crt\nb.crt', identity: { cert: 'own.cert', key: 'own.key' } });
      for (const none of [undefined, join(directory, 'none')]) assert.deepEqual(await readCertificates(none), { ca: undefined });
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('tells each status by its code', () => {
    const codes = [401, 403, 429, 500, 503, 418].map((status) => statusError(new URL('https://u:p@x/'), status, 'r'));
    assert.deepEqual(
      codes.map(({ code }) => code),
      ['ERR_PULL_LOGIN', 'ERR_PULL_DENIED', 'ERR_PULL_LIMIT', 'ERR_PULL_SERVER', 'ERR_PULL_SERVER', 'ERR_PULL'],
    );
    assert.equal(codes[0]?.message, 'https://x/ returned status 401');
  });
});

describe('a registry that wants a token', () => {
  it('is shown the login, and no server is that it leads to', async () => {
    const work = await mkdtemp(join(tmpdir(), 'registry-client-'));
    const seen: (readonly [string, string | undefined])[] = [];
    const serve = async (answer: (url: string, login: string | undefined) => readonly [number, Record<string, string>, string]) => {
      const server = createServer((request, response) => {
        const { url = '', headers } = request;
        seen.push([url, headers.authorization]);
        const [status, given, body] = answer(url, headers.authorization);
        response.writeHead(status, given).end(body);
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const address = server.address();
      return { server, host: `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}` };
    };
    const elsewhere = await serve(() => [200, {}, 'a blob']);
    const registry = await serve((url, login) => {
      if (url === '/v2/') return [200, {}, ''];
      if (url.startsWith('/token')) return login === `Basic ${base64('u:p')}` ? [200, {}, '{"token":"t"}'] : [401, {}, ''];
      if (login !== 'Bearer t') return [401, { 'www-authenticate': `Bearer realm="http://${registry.host}/token",service="s"` }, ''];
      if (url.endsWith('unknown')) return [400, {}, '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'];
      if (url.endsWith('invalid')) return [400, {}, '{"errors":[{"code":"TAG_INVALID"}]}'];
      return [307, { location: `http://${elsewhere.host}/blob` }, ''];
    });
    try {
      const exec = async (): Promise<never> => assert.fail('no program is needed');
      const authFile = join(work, 'auth.json');
      await writeFile(authFile, JSON.stringify({ auths: { [registry.host]: { auth: base64('u:p') } } }));
      using client = openRegistryClient({ env: { HOME: work }, exec }, { tlsVerify: false, authFile });
      const place = { name: `${registry.host}/a/b`, registry: registry.host, repository: 'a/b', isInsecure: false };
      const { signal } = new AbortController();
      const answer = await client.get(place, 'blobs/x', { signal });
      assert.ok(answer);
      const tooLong = (): PrestageError => new PrestageError('ERR_ATTACHMENT', 'too long', 'none');
      assert.equal((await client.bytesOf(answer, 6, tooLong)).toString(), 'a blob');
      const again = await client.get(place, 'blobs/x', { signal });
      assert.ok(again);
      await assert.rejects(client.bytesOf(again, 5, tooLong), { code: 'ERR_ATTACHMENT' });
      assert.deepEqual(seen, [
        ['/v2/', undefined],
        ['/v2/a/b/blobs/x', undefined],
        ['/token?service=s&scope=repository%3Aa%2Fb%3Apull', `Basic ${base64('u:p')}`],
        ['/v2/a/b/blobs/x', 'Bearer t'],
        ['/blob', undefined],
        ['/v2/a/b/blobs/x', 'Bearer t'],
        ['/blob', undefined],
      ]);
      assert.equal(await client.get(place, 'manifests/unknown', { signal }), undefined);
      await assert.rejects(client.get(place, 'manifests/invalid', { signal }), { code: 'ERR_PULL' });
      await assert.rejects(client.get(place, `http://${elsewhere.host}/page`, { signal }), { code: 'ERR_PULL' });
    } finally {
      for (const { server } of [registry, elsewhere]) {
        server.close();
        server.closeAllConnections();
      }
      await rm(work, { recursive: true });
    }
  });
});
