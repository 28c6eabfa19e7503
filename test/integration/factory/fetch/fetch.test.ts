import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { test } from 'node:test';
import { runProgram } from '../../../../agent/cli/program.ts';
import { type FetchReport, type FetchRequest, fetchFiles } from '../../../../agent/factory/fetch/fetch.ts';
import { createHttpClient } from '../../../../agent/factory/web/http.ts';
import { plainAct } from '../../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { waitFor } from '../../../support/agent.ts';
import { disksUnavailable, fillDisk, makeDisk } from '../../../support/disk.ts';
import { seal } from '../../../support/sealed-bundle.ts';
import { type Fault, startFaultServer, startForwardProxy, startNginx, startPython } from '../../../support/web-server.ts';

/** No waiting between tries; what was waited for is noted. */
const pauses: number[] = [];
const host = {
  ...linuxHost({ root: '/', log: () => undefined, env: {} }),
  clock: {
    now: () => new Date(),
    monotonicMs: () => performance.now(),
    sleep: async (ms: number) => {
      pauses.push(ms);
    },
  },
};

const MIB = 1024 * 1024;

/** Bytes that no pattern repeats, the same at every run. */
function noise(name: string, sizeBytes: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(sizeBytes / 32) }, (_, index) => createHash('sha256').update(`${name}${index}`).digest());
  return Buffer.concat(blocks).subarray(0, sizeBytes);
}

function gzipLike(name: string, sizeBytes: number): Buffer {
  return Buffer.concat([Buffer.from([0x1f, 0x8b]), noise(name, sizeBytes - 2)]);
}

/** Files of an old folder. */
const OLD_FILES = {
  'ai-images.txt': 'quay.io/example/a:1\n',
  'mapping.txt': 'quay.io/example/a:1=registry.example.com/a:1\n',
  'a_1.tgz': gzipLike('a', 3 * MIB),
  'ocp-v4.0-art-dev@sha256_00.tgz': gzipLike('ocp', 200_000),
  'sub/ümlaut & more.tgz': gzipLike('sub', 100),
};

interface Place extends AsyncDisposable {
  readonly work: string;
  readonly remote: string;
  readonly local: string;
}

async function makePlace(files: Readonly<Record<string, string | Buffer>>): Promise<Place> {
  const work = await mkdtemp(join(tmpdir(), 'fetch-'));
  const remote = join(work, 'remote');
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(remote, path)), { recursive: true });
    await writeFile(join(remote, path), content);
    await utimes(join(remote, path), 1_700_000_000, 1_700_000_000);
  }
  return { work, remote, local: join(work, 'local'), [Symbol.asyncDispose]: async () => await rm(work, { recursive: true }) };
}

/** A sealed bundle with a payload of these files. */
async function makeBundlePlace(files: Readonly<Record<string, string | Buffer>> = BUNDLE_FILES): Promise<Place & { sha256: string }> {
  const place = await makePlace(files);
  const { sha256 } = await seal({ directory: place.remote, stage: 'installed', images: [], payloads: [{ kind: 'oci', path: 'oci' }] });
  return { ...place, sha256, [Symbol.asyncDispose]: async () => await place[Symbol.asyncDispose]() };
}

const BUNDLE_FILES = {
  'README.txt': 'read me\n',
  'prestage-agent': noise('agent', 100_000),
  'oci/index.json': '{}',
  'oci/blobs/sha256/aa': noise('aa', 5 * MIB),
  'oci/blobs/sha256/bb': noise('bb', 700_000),
};

async function fetchTo(place: Place, url: string, more: Partial<FetchRequest> = {}): Promise<FetchReport> {
  const signal = new AbortController().signal;
  return await fetchFiles(host, { url, directory: place.local, parallel: 2, retries: 3, headers: {}, act: plainAct, signal, ...more });
}

/** Content of all files below a directory, without what a fetch keeps for itself. */
async function treeOf(directory: string): Promise<Readonly<Record<string, string>>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => relative(directory, join(entry.parentPath, entry.name)));
  const own = paths.filter((path) => !path.startsWith('.prestage-fetch/')).toSorted();
  return Object.fromEntries(
    await Promise.all(
      own.map(async (path) => [
        path,
        createHash('sha256')
          .update(await readFile(join(directory, path)))
          .digest('hex'),
      ]),
    ),
  );
}

const counts = ({ outcome, fetched, kept, failed }: FetchReport) => [outcome, fetched.files, kept.files, failed.length];

for (const [name, start] of [
  ['nginx', startNginx],
  ['python', startPython],
] as const) {
  test(`a bundle comes from ${name} whole, with its executable, and a second fetch downloads nothing`, async () => {
    await using place = await makeBundlePlace();
    await using server = await start(place.remote);
    const report = await fetchTo(place, server.url, { bundleSha256: place.sha256 });
    assert.deepEqual(report, {
      url: server.url,
      directory: place.local,
      source: 'bundle',
      outcome: 'complete',
      bundleSha256: place.sha256,
      fetched: { files: 5, bytes: Object.values(BUNDLE_FILES).reduce((total, file) => total + file.length, 0) },
      kept: { files: 0, bytes: 0 },
      failed: [],
      removed: [],
      notices: [],
    });
    assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
    assert.equal((await stat(join(place.local, 'prestage-agent'))).mode & 0o777, 0o755);
    assert.deepEqual((await readdir(place.local)).toSorted(), ['README.txt', 'oci', 'prestage-agent', 'prestage.json']);

    const before = (await server.requests()).length;
    assert.deepEqual(counts(await fetchTo(place, server.url)), ['complete', 0, 5, 0]);
    const asked = (await server.requests()).slice(before);
    assert.deepEqual(asked, ['GET /prestage.json', 'HEAD /prestage.json.partial']);
  });

  test(`an old folder comes from ${name} by its index page, and a second fetch downloads nothing`, async () => {
    await using place = await makePlace(OLD_FILES);
    await using server = await start(place.remote);
    const report = await fetchTo(place, server.url);
    assert.deepEqual([report.source, ...counts(report)], ['folder', 'complete', 5, 0, 0]);
    assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));

    const before = (await server.requests()).length;
    assert.deepEqual(counts(await fetchTo(place, server.url)), ['complete', 0, 5, 0]);
    const gets = (await server.requests()).slice(before).filter((line) => line.startsWith('GET'));
    assert.deepEqual(gets, ['GET /prestage.json', 'GET /', 'GET /sub/']);
  });

  test(`a file that changed on ${name} or on the disk is fetched again, the others are kept`, async () => {
    await using place = await makePlace(OLD_FILES);
    await using server = await start(place.remote);
    await fetchTo(place, server.url);
    await writeFile(join(place.remote, 'mapping.txt'), 'quay.io/example/a:1=registry.example.com/a:2\n');
    await writeFile(join(place.local, 'a_1.tgz'), 'damaged here');
    const report = await fetchTo(place, server.url);
    assert.deepEqual(counts(report), ['complete', 2, 3, 0]);
    assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
  });
}

test('a bundle that replaces another takes its files away last, keeps what is equal, and names what belongs to neither', async () => {
  await using place = await makeBundlePlace({ ...BUNDLE_FILES, 'oci/blobs/sha256/old': 'old' });
  await using server = await startNginx(place.remote);
  await fetchTo(place, server.url);
  await writeFile(join(place.local, 'notes.txt'), 'of a person');
  await rm(join(place.remote, 'oci/blobs/sha256/old'));
  await writeFile(join(place.remote, 'oci/blobs/sha256/new'), 'new');
  await rm(join(place.remote, 'prestage.json'));
  await seal({ directory: place.remote, stage: 'installed', images: [], payloads: [{ kind: 'oci', path: 'oci' }] });
  const report = await fetchTo(place, server.url);
  assert.deepEqual(
    [...counts(report), report.removed, report.notices],
    ['complete', 1, 5, 0, ['oci/blobs/sha256/old'], [`${join(place.local, 'notes.txt')} does not belong to the bundle`]],
  );
  const { 'notes.txt': _, ...rest } = await treeOf(place.local);
  assert.deepEqual(rest, await treeOf(place.remote));
});

test('a dry run says what would come and writes nothing', async () => {
  await using place = await makeBundlePlace();
  await using server = await startNginx(place.remote);
  const report = await fetchTo(place, server.url, { isDry: true });
  assert.deepEqual(counts(report), ['planned', 5, 0, 0]);
  await assert.rejects(readdir(place.local), { code: 'ENOENT' });
});

/** Runs a fetch against a server with a fault. */
async function withFault(place: Place, fault: Fault, more: Partial<FetchRequest> = {}) {
  await using server = await startFaultServer(place.remote, fault);
  const report = await fetchTo(place, server.url, more);
  return { report, requests: await server.requests() };
}

test('a body that breaks off is gone on with by Range, as often as it brings the file further', async () => {
  await using place = await makeBundlePlace();
  const big = '/oci/blobs/sha256/aa';
  const { report, requests } = await withFault(
    place,
    ({ path, nth }) => (path === big && nth < 5 ? { kind: 'cut', bytes: MIB } : undefined),
    {
      retries: 1,
    },
  );
  assert.deepEqual(counts(report), ['complete', 5, 0, 0]);
  assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
  const ranges = requests.filter((line) => line.startsWith(`GET ${big}`)).map((line) => line.replace(`GET ${big}`, ''));
  assert.equal(ranges.length, 5);
  assert.ok(
    ranges.slice(1).every((range) => /^ bytes=\d+-$/.test(range)),
    ranges.join(),
  );
});

test('a fetch that was ended goes on in another process where it was, without fetching twice', async () => {
  await using place = await makeBundlePlace();
  const big = '/oci/blobs/sha256/aa';
  const first = await withFault(place, ({ path }) => (path === big ? { kind: 'cut', bytes: 2 * MIB } : undefined), { retries: 0 });
  assert.deepEqual(counts(first.report), ['partial', 4, 0, 1]);
  assert.deepEqual(
    (await readdir(place.local)).toSorted(),
    ['.prestage-fetch', 'README.txt', 'oci', 'prestage-agent', 'prestage.json.partial'],
    'the node sees that it is not whole',
  );
  const second = await withFault(place, () => undefined);
  assert.deepEqual(counts(second.report), ['complete', 1, 4, 0]);
  const [line] = second.requests.filter((one) => one.startsWith(`GET ${big}`));
  assert.match(line ?? '', / bytes=[1-9]\d{5,}-$/);
  assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
  assert.deepEqual((await readdir(place.local)).toSorted(), ['README.txt', 'oci', 'prestage-agent', 'prestage.json']);
});

test('a fetch that was killed goes on where it was', async () => {
  await using place = await makeBundlePlace();
  const big = '/oci/blobs/sha256/aa';
  await using server = await startFaultServer(place.remote, ({ path, nth }) =>
    path === big && nth === 1 ? { kind: 'stall', bytes: 3 * MIB } : undefined,
  );
  const args = [join(import.meta.dirname, '../../../../agent/main.ts'), 'fetch', server.url, '--to', place.local];
  const child = spawn(process.execPath, args, { stdio: 'ignore' });
  const exited = once(child, 'exit');
  await waitFor('a part of the file', async () => {
    const names = await readdir(join(place.local, '.prestage-fetch')).catch(() => []);
    // One that is whole by now has another name.
    const sizeOf = async (name: string) => (await stat(join(place.local, '.prestage-fetch', name)).catch(() => ({ size: 0 }))).size;
    const sizes = await Promise.all(names.filter((name) => name.endsWith('.part')).map(sizeOf));
    return sizes.some((size) => size >= 2 * MIB) ? true : undefined;
  });
  child.kill('SIGKILL');
  await exited;
  assert.ok((await readdir(place.local)).includes('prestage.json.partial'));
  assert.equal((await fetchTo(place, server.url)).outcome, 'complete');
  const ranges = (await server.requests()).filter((line) => line.startsWith(`GET ${big} bytes=`));
  assert.equal(ranges.length, 1);
  assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
});

test('a server that falls silent is given up after a while, and that may pass', async () => {
  await using place = await makePlace({ 'a.tgz': gzipLike('one', 3 * MIB) });
  await using server = await startFaultServer(place.remote, () => ({ kind: 'stall', bytes: MIB }));
  using client = createHttpClient({ headers: {}, origin: '', ca: undefined, env: {}, userAgent: 'test', silenceLimitMs: 200 });
  const answer = await client.ask(new URL('a.tgz', server.url), { method: 'GET', signal: new AbortController().signal });
  const read = async (): Promise<void> => {
    for await (const _ of answer.body());
  };
  await assert.rejects(read(), { name: 'Transient' });
});

test('a file that changes between two tries is fetched from its start', async () => {
  await using place = await makePlace({ 'a.tgz': gzipLike('one', 3 * MIB) });
  const fault: Fault = ({ path, nth, method }) =>
    path === '/a.tgz' && method === 'GET' && nth === 1 ? { kind: 'cut', bytes: MIB } : undefined;
  await using server = await startFaultServer(place.remote, fault);
  const first = await fetchTo(place, server.url, { retries: 0 });
  assert.deepEqual(counts(first), ['failed', 0, 0, 1]);
  await writeFile(join(place.remote, 'a.tgz'), gzipLike('two', 3 * MIB));
  assert.deepEqual(counts(await fetchTo(place, server.url)), ['complete', 1, 0, 0]);
  assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
});

for (const kind of ['whole', 'shifted', 'etag'] as const) {
  test(`a range that is not what was asked for (${kind}) mixes nothing`, async () => {
    await using place = await makePlace({ 'a.tgz': gzipLike('one', 3 * MIB) });
    const { report } = await withFault(place, ({ path, nth, method }) => {
      if (path !== '/a.tgz' || method !== 'GET') return undefined;
      if (nth === 1) return { kind: 'cut', bytes: MIB };
      if (nth > 2) return undefined;
      return kind === 'etag' ? { kind, etag: '"other"' } : { kind };
    });
    assert.deepEqual(counts(report), ['complete', 1, 0, 0]);
    assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
  });
}

test('resets and 500, 503, 429 pass, with growing pauses or the one that the server asks for', async () => {
  await using place = await makePlace({ 'a.tgz': gzipLike('one', 1000) });
  pauses.length = 0;
  const { report } = await withFault(
    place,
    ({ path, method, nth }) => {
      if (path !== '/a.tgz' || method !== 'GET') return undefined;
      if (nth === 1) return { kind: 'reset' };
      if (nth === 2) return { kind: 'status', status: 500 };
      if (nth === 3) return { kind: 'status', status: 503, headers: { 'retry-after': '7' } };
      if (nth === 4) return { kind: 'status', status: 429 };
      return undefined;
    },
    { retries: 4 },
  );
  assert.deepEqual(counts(report), ['complete', 1, 0, 0]);
  assert.deepEqual(pauses, [500, 1000, 7000, 4000]);
});

test('404, 401 and 403 are told at once, with a remedy of their own, and the other files come', async () => {
  await using place = await makeBundlePlace();
  const statuses: Readonly<Record<string, number>> = { '/README.txt': 404, '/oci/index.json': 401, '/oci/blobs/sha256/bb': 403 };
  const { report, requests } = await withFault(place, ({ path }) => {
    const status = statuses[path];
    return status === undefined ? undefined : { kind: 'status', status };
  });
  assert.deepEqual(counts(report), ['partial', 2, 0, 3]);
  const base = report.url;
  const login = "Give the login that the server demands, such as --header 'Authorization: Basic …', or make the folder public";
  const fault = (path: string, status: number, remedy: string) => ({
    path,
    error: { code: 'ERR_FETCH_REFUSED', message: `${base}${path} returned status ${status}`, remedy },
  });
  assert.deepEqual(report.failed, [
    fault('README.txt', 404, 'Compare the address with the files on the server'),
    fault('oci/blobs/sha256/bb', 403, login),
    fault('oci/index.json', 401, login),
  ]);
  assert.equal(requests.filter((line) => line === 'GET /README.txt').length, 1);
  await assert.rejects(stat(join(place.local, 'prestage.json')), { code: 'ENOENT' });
});

test('a server that stays away ends the fetch soon, not after all tries for each file', async () => {
  const files = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`file-${index}.tgz`, gzipLike(String(index), 50)]));
  await using place = await makePlace(files);
  const { report, requests } = await withFault(
    place,
    ({ method, path }) => (method === 'GET' && path.endsWith('.tgz') ? { kind: 'reset' } : undefined),
    {
      retries: 2,
    },
  );
  assert.deepEqual(counts(report), ['failed', 0, 0, 30]);
  assert.ok(requests.filter((line) => line.startsWith('GET /file-')).length <= 5 * 3, requests.join('\n'));
  assert.ok(new Set(report.failed.map((one) => one.error.code)).size === 1);
});

const PAGE = '<!DOCTYPE html><html><body>Please log in</body></html>';

for (const [what, fault, message] of [
  [
    'an error page with 200 by its type',
    { kind: 'body', body: PAGE, headers: { 'content-type': 'text/html; charset=utf-8' } },
    'is an HTML page (text/html; charset=utf-8)',
  ],
  ['an error page with 200 that is called an archive', { kind: 'body', body: PAGE }, 'is an HTML page'],
  ['text in place of an archive', { kind: 'body', body: 'quota exceeded, come back tomorrow' }, 'is not a gzip file'],
  ['a list that is compressed on its way', undefined, 'is compressed for the transfer (gzip)'],
] as const) {
  test(`${what} is never saved as a file`, async () => {
    await using place = await makePlace({ 'a.tgz': gzipLike('one', 1000), 'b.txt': 'b' });
    const bad = fault === undefined ? '/b.txt' : '/a.tgz';
    const { report } = await withFault(place, ({ path, method }) =>
      path === bad && method === 'GET' ? (fault ?? { kind: 'body', body: 'zipped', headers: { 'content-encoding': 'gzip' } }) : undefined,
    );
    assert.deepEqual(counts(report), ['partial', 1, 0, 1]);
    assert.deepEqual(report.failed, [
      {
        path: bad.slice(1),
        error: {
          code: 'ERR_FETCH_CONTENT',
          message: `${report.url}${bad.slice(1)} ${message}`,
          remedy: 'Open the address in a browser: the server sends something else instead of the file',
        },
      },
    ]);
    await assert.rejects(stat(join(place.local, bad)), { code: 'ENOENT' });
  });
}

test('a file of a bundle with other bytes is tried once more and then refused; the bundle stays marked as not whole', async () => {
  await using place = await makeBundlePlace();
  await writeFile(join(place.remote, 'oci/blobs/sha256/bb'), noise('other', 700_000));
  const { report, requests } = await withFault(place, () => undefined);
  assert.deepEqual(counts(report), ['partial', 4, 0, 1]);
  assert.equal(report.failed[0]?.error.code, 'ERR_FETCH_CONTENT');
  assert.match(
    report.failed[0]?.error.message ?? '',
    /bb has 700000 bytes with sha256 [0-9a-f]{64}, but the manifest says 700000 with [0-9a-f]{64}$/,
  );
  assert.equal(requests.filter((line) => line === 'GET /oci/blobs/sha256/bb').length, 2);
  assert.ok((await readdir(place.local)).includes('prestage.json.partial'));
});

test('a bundle with another hash than the one that is asked for is refused before anything is written', async () => {
  await using place = await makeBundlePlace();
  const pin = '0'.repeat(64);
  await assert.rejects(
    withFault(place, () => undefined, { bundleSha256: pin }),
    {
      code: 'ERR_BUNDLE_PIN',
      remedy: 'Put the intended bundle on the server, or give the hash of this one',
    },
  );
  await assert.rejects(readdir(place.local), { code: 'ENOENT' });
});

test('an address without manifest and index page is refused', async () => {
  await using place = await makePlace({ 'index.html': PAGE });
  await using server = await startFaultServer(place.remote, ({ path }) =>
    path === '/' ? { kind: 'body', body: PAGE, headers: { 'content-type': 'text/html' } } : undefined,
  );
  await assert.rejects(fetchTo(place, server.url), {
    code: 'ERR_FETCH_INDEX',
    message: `${server.url} is not an index page of nginx, Apache httpd or Python`,
  });
});

test('headers and password go to the server itself and nowhere else, and no message has them', async () => {
  await using place = await makeBundlePlace();
  await using other = await startFaultServer(place.remote, () => undefined);
  await using server = await startFaultServer(place.remote, ({ path }) =>
    path === '/README.txt' ? { kind: 'status', status: 302, headers: { location: `${other.url}README.txt` } } : undefined,
  );
  const url = server.url.replace('//', '//user:secret@');
  const report = await fetchTo(place, url, { headers: { 'X-Token': 'secret' } });
  assert.deepEqual([report.outcome, report.url], ['complete', server.url]);
  assert.ok(server.seen.every((headers) => headers['x-token'] === 'secret' && headers.authorization === `Basic ${btoa('user:secret')}`));
  assert.equal(other.seen.length, 1);
  assert.deepEqual([other.seen[0]?.['x-token'], other.seen[0]?.authorization], [undefined, undefined]);
  assert.equal(JSON.stringify(report).includes('secret'), false);
});

test('the proxy of the environment is used, and NO_PROXY is heeded', async () => {
  await using place = await makeBundlePlace();
  await using server = await startFaultServer(place.remote, () => undefined);
  const proxied: string[] = [];
  await using proxy = await startForwardProxy((url) => proxied.push(url));
  const fetchWith = async (env: Readonly<Record<string, string>>) =>
    await fetchFiles(
      { ...host, env },
      {
        url: server.url,
        directory: place.local,
        parallel: 1,
        retries: 0,
        headers: {},
        act: plainAct,
        signal: new AbortController().signal,
        isDry: true,
      },
    );
  await fetchWith({ http_proxy: proxy.url, no_proxy: '127.0.0.1' });
  await fetchWith({ http_proxy: proxy.url, NO_PROXY: 'localhost,127.0.0.0/8' });
  assert.deepEqual(proxied, []);
  await fetchWith({ http_proxy: proxy.url });
  assert.deepEqual(proxied, [`${server.url}prestage.json`, `${server.url}prestage.json.partial`]);
});

test('a server of an authority that nobody knows needs --ca', async () => {
  await using place = await makeBundlePlace();
  const [key, cert] = [join(place.work, 'key.pem'), join(place.work, 'cert.pem')];
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', '/CN=factory'];
  await output(execOnLinux, 'openssl', [...request, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert]);
  const pem = await readFile(cert, 'utf8');
  await using server = await startFaultServer(place.remote, () => undefined, { key: await readFile(key, 'utf8'), cert: pem });
  await assert.rejects(fetchTo(place, server.url), {
    code: 'ERR_FETCH_NETWORK',
    remedy: 'Give the CA certificate of the server with --ca, or use the host name in its certificate',
  });
  assert.deepEqual(counts(await fetchTo(place, server.url, { ca: pem })), ['complete', 5, 0, 0]);
});

test('a signal ends a fetch with its reason, and what has come stays', async () => {
  await using place = await makeBundlePlace();
  const stop = new AbortController();
  await using server = await startNginx(place.remote);
  const running = fetchTo(place, server.url, {
    signal: stop.signal,
    onEvent: (event) => {
      if (event.kind === 'bytes') stop.abort(new Error('enough'));
    },
  });
  await assert.rejects(running, { message: 'enough' });
  assert.ok((await readdir(place.local)).includes('prestage.json.partial'));
  assert.deepEqual(counts(await fetchTo(place, server.url)).slice(0, 1), ['complete']);
  assert.deepEqual(await treeOf(place.local), await treeOf(place.remote));
});

test('a disk that is too small is told before anything is fetched', async () => {
  await using place = await makeBundlePlace();
  await mkdir(place.local);
  await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', place.local]);
  try {
    await assert.rejects(
      withFault(place, () => undefined),
      { code: 'ERR_SPACE_FETCH' },
    );
    assert.deepEqual(await readdir(place.local), []);
  } finally {
    await output(execOnLinux, 'umount', [place.local]);
  }
});

test('a disk image takes a bundle on its data partition; another bundle there is replaced only when the person agrees', async () => {
  const reason = await disksUnavailable();
  assert.equal(reason, undefined, reason);
  await using place = await makeBundlePlace();
  await using server = await startNginx(place.remote);
  await using disk = await makeDisk({ directory: place.work, label: 'data' });
  const first = await runAt('fetch', server.url, '--to', disk.device);
  assert.equal(first.exitCode, 0, first.err);
  assert.match(first.out, new RegExp(`^complete: 5 files fetched .*\\n(.*\\n)*next: +prestage-agent verify ${disk.device}\\n$`));
  await fillDisk(disk, place.work, async (mountPoint) => {
    assert.deepEqual(await treeOf(mountPoint), await treeOf(place.remote));
  });
  await writeFile(join(place.remote, 'README.txt'), 'another release\n');
  await rm(join(place.remote, 'prestage.json'));
  await seal({ directory: place.remote, stage: 'installed', images: [], payloads: [{ kind: 'oci', path: 'oci' }] });
  const asked = await runAt('fetch', server.url, '--to', disk.partition, '--output', 'json');
  assert.equal(JSON.parse(asked.err.slice(asked.err.indexOf('{'))).error.code, 'ERR_NOT_CONFIRMED');
  const serial = /--expect-serial '([^']+)'/.exec(asked.err)?.[1] ?? '';
  const agreed = await runAt('fetch', server.url, '--to', disk.partition, '--yes', '--expect-serial', serial);
  assert.equal(agreed.exitCode, 0, agreed.err);
  await fillDisk(disk, place.work, async (mountPoint) => {
    assert.deepEqual(await treeOf(mountPoint), await treeOf(place.remote));
  });
  assert.equal((await readFile('/proc/self/mounts', 'utf8')).includes(disk.partition), false);
});

test('links in the target that lead out of it, and a bundle under loose files, stand in the way', async () => {
  await using place = await makeBundlePlace();
  await mkdir(join(place.work, 'elsewhere'));
  await mkdir(place.local);
  await symlink('../elsewhere', join(place.local, 'oci'));
  await assert.rejects(
    withFault(place, () => undefined),
    { code: 'ERR_FETCH_WRITE' },
  );
  assert.deepEqual(await readdir(join(place.work, 'elsewhere')), []);
  await rm(join(place.local, 'oci'));
  assert.equal((await withFault(place, () => undefined)).report.outcome, 'complete');
  await using loose = await makePlace(OLD_FILES);
  await using server = await startNginx(loose.remote);
  await assert.rejects(fetchTo(place, server.url), {
    code: 'ERR_FETCH_WRITE',
    message: `${place.local} holds a bundle, but the files to fetch come from a folder without prestage.json`,
  });
});

async function runAt(...args: readonly string[]) {
  const written = { out: '', err: '' };
  const exitCode = await runProgram(args, {
    out: { write: (text: string) => (written.out += text) },
    err: { write: (text: string) => (written.err += text) },
    env: {},
    stop: new AbortController().signal,
    kill: new AbortController().signal,
  });
  return { exitCode, ...written };
}

test('the command tells complete, partial and wrong use by its exit code', async () => {
  await using place = await makeBundlePlace();
  await using server = await startFaultServer(place.remote, ({ path }) =>
    path === '/README.txt' ? { kind: 'status', status: 404 } : undefined,
  );
  const partial = await runAt('fetch', server.url, '--to', place.local, '--output', 'json');
  const report = JSON.parse(partial.out);
  assert.deepEqual([partial.exitCode, report.kind, report.outcome, report.failed[0].path], [3, 'FetchReport', 'partial', 'README.txt']);
  for (const args of [
    ['fetch', server.url],
    ['fetch', 'ftp://factory.example/', '--to', place.local],
    ['fetch', server.url, '--to', place.local, '--parallel', '0'],
    ['fetch', server.url, '--to', place.local, '--header', 'no colon'],
    ['fetch', server.url, '--to', place.local, '--ca', join(place.work, 'nothing.pem')],
  ])
    assert.equal((await runAt(...args)).exitCode, 2, args.join(' '));
});
