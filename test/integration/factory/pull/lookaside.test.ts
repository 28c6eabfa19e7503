import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { ABSENT_FILE } from '../../../../agent/factory/pull/absent-record.ts';
import { readLookasideRecord } from '../../../../agent/factory/shared/lookaside-record.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { BUNDLE_FILE, parseBundle, signaturePath } from '../../../../agent/model/bundle.ts';
import { type Digest, digestOf } from '../../../../agent/model/digest.ts';
import { parseReference } from '../../../../agent/model/reference.ts';
import { PAYLOAD_LIMIT_BYTES, SIGNATURES_LIMIT } from '../../../../agent/signatures/attachment.ts';
import { readSignatures } from '../../../../agent/signatures/bundle-signatures.ts';
import { openSigned } from '../../../../agent/signatures/gpg.ts';
import { LOOKASIDE_FILE, lookasidePath } from '../../../../agent/signatures/lookaside.ts';
import { readUserRegistriesD } from '../../../../agent/signatures/own-registries-d.ts';
import { runBuild } from '../../../support/build.ts';
import { type GpgKey, makeGpgKey, putInLookaside } from '../../../support/gpg.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import { tryPull } from '../../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../../support/registry.ts';

/** What a web server answers: bytes, a status, or a reset. */
type Given = Buffer | number | 'reset';

let set: ImageSet;
let registry: Registry;
let key: GpgKey;
let work: string;
let server: Server;
let base: string;
let reference: string;
let subject: Digest;
let messages: readonly Buffer[];
const asked: string[] = [];
let answers: (path: string, nth: number) => Given;

before(async () => {
  set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  await registry.add(set.store, set.all);
  key = await makeGpgKey();
  work = await mkdtemp(join(tmpdir(), 'pull-lookaside-'));
  reference = localReference(registry.host, set.images.release.reference);
  subject = set.images.release.digest;
  messages = [await key.sign(subject, reference), await key.sign(subject, 'registry.example.com/other:name')];
  server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    const given = answers(path, asked.filter((one) => one === path).length);
    if (given === 'reset') request.socket.resetAndDestroy();
    else if (typeof given === 'number') response.writeHead(given).end();
    else response.end(given);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  base = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/sigs`;
});
after(async () => {
  server.close();
  server.closeAllConnections();
  await key[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

const pathOf = (number: number): string => `/sigs/${lookasidePath(parseReference(reference).repository, subject, number)}`;
const signed = (path: string): Given => messages[[pathOf(1), pathOf(2)].indexOf(path)] ?? 404;
const newFolder = async (): Promise<string> => await mkdtemp(join(work, 'to-'));

beforeEach(() => {
  asked.length = 0;
  answers = signed;
});

describe('a pull with a lookaside', () => {
  it('brings the GPG signatures of an image until one is absent, and asks for nothing twice', async () => {
    const to = await newFolder();
    const { report } = await tryPull(to, [reference], { signatures: 'auto', lookaside: base });
    assert.deepEqual([report.outcome, report.images[0]?.signed, report.images[0]?.gpgSigned], ['complete', [], [subject]]);
    const { registry: host, repository } = parseReference(reference);
    assert.deepEqual(await readLookasideRecord(to), [{ repository: `${host}/${repository}`, subject, files: messages.map(digestOf) }]);
    assert.deepEqual(asked, [1, 2, 3].map(pathOf));
    const again = await tryPull(to, [reference], { signatures: 'require', lookaside: base });
    assert.deepEqual([again.report.outcome, again.report.images[0]?.gpgSigned, asked.length], ['complete', [subject], 3]);
  });

  it('remembers an absent signature, until signatures are required', async () => {
    const to = await newFolder();
    answers = () => 404;
    for (const signatures of ['auto', 'auto'] as const) await tryPull(to, [reference], { signatures, lookaside: base });
    assert.deepEqual(asked, [pathOf(1)]);
    assert.ok((await readFile(join(to, ABSENT_FILE), 'utf8')).includes(`${new URL(base).origin}${pathOf(1)}`));
    const { report } = await tryPull(to, [reference], { signatures: 'require', lookaside: base });
    assert.deepEqual([report.images[0]?.error?.code, asked.length], ['ERR_PULL_UNSIGNED', 2]);
  });

  const faults: readonly (readonly [string, Given, string, number])[] = [
    ['401', 401, 'ERR_PULL_LOGIN', 1],
    ['403', 403, 'ERR_PULL_DENIED', 1],
    ['410', 410, 'ERR_PULL', 1],
    ['429', 429, 'ERR_PULL_LIMIT', 3],
    ['503', 503, 'ERR_PULL_SERVER', 3],
    ['a reset', 'reset', 'ERR_PULL_NETWORK', 3],
  ];
  for (const [what, given, code, tries] of faults)
    it(`takes ${what} for a fault, not for an absent signature`, async () => {
      const to = await newFolder();
      answers = () => given;
      const { report } = await tryPull(to, [reference], { signatures: 'auto', lookaside: base, retries: 2 });
      assert.deepEqual([report.outcome, report.images[0]?.error?.code, asked.length], ['failed', code, tries]);
      answers = (path, nth) => (nth === tries + 1 && given !== 401 && given !== 403 && given !== 410 ? given : signed(path));
      const after = await tryPull(to, [reference], { signatures: 'auto', lookaside: base });
      assert.deepEqual([after.report.outcome, after.report.images[0]?.gpgSigned], ['complete', [subject]]);
    });

  it('refuses a signature above 4 MiB, and more than 64 of an image', async () => {
    const cases: readonly (readonly [(path: string) => Given, RegExp])[] = [
      [() => Buffer.alloc(PAYLOAD_LIMIT_BYTES + 1), /signature-1 has more than 4194304 bytes, the limit of engines$/],
      [(path) => Buffer.from(path), /^the lookaside has more than 64 signatures of /],
    ];
    for (const [given, expected] of cases) {
      asked.length = 0;
      answers = given;
      const { report } = await tryPull(await newFolder(), [reference], { signatures: 'auto', lookaside: base });
      assert.equal(report.images[0]?.error?.code, 'ERR_SIGNATURE');
      assert.match(report.images[0]?.error?.message ?? '', expected);
      assert.ok(asked.length <= SIGNATURES_LIMIT + 1);
    }
  });

  it('passes over a sigstore signature in a lookaside', async () => {
    const to = await newFolder();
    answers = (path) => (path === pathOf(1) ? Buffer.from('\0sigstore-json\n{}') : path === pathOf(2) ? (messages[0] ?? 404) : 404);
    await tryPull(to, [reference], { signatures: 'auto', lookaside: base });
    assert.deepEqual(
      (await readLookasideRecord(to)).map(({ files }) => files),
      [[digestOf(messages[0] ?? '')]],
    );
  });

  it('takes a folder for a lookaside, and no folder for an absent signature', async () => {
    const folder = await newFolder();
    const lookaside = pathToFileURL(folder).href;
    const absent = await tryPull(await newFolder(), [reference], { signatures: 'auto', lookaside });
    assert.deepEqual([absent.report.outcome, absent.report.images[0]?.gpgSigned], ['complete', undefined]);
    const { repository: path } = parseReference(reference);
    await putInLookaside(folder, { path, subject }, messages[0] ?? Buffer.alloc(0));
    const { report } = await tryPull(await newFolder(), [reference], { signatures: 'auto', lookaside });
    assert.deepEqual(report.images[0]?.gpgSigned, [subject]);
    await mkdir(join(folder, lookasidePath(path, subject, 2)));
    const spoilt = await tryPull(await newFolder(), [reference], { signatures: 'auto', lookaside });
    assert.deepEqual([spoilt.report.outcome, spoilt.report.images[0]?.error?.code], ['failed', 'ERR_SIGNATURE']);
  });

  it('refuses a record of signatures that was exchanged', async () => {
    const to = await newFolder();
    await tryPull(to, [reference], { signatures: 'auto', lookaside: base });
    await rm(join(to, LOOKASIDE_FILE));
    await symlink('/dev/zero', join(to, LOOKASIDE_FILE));
    await assert.rejects(tryPull(to, [reference], { signatures: 'auto', lookaside: base }), { code: 'ERR_SIGNATURE' });
  });

  it('gives build what a bundle has beside the image, and a policy with the key accepts it', async () => {
    const to = await newFolder();
    await tryPull(to, [reference], { signatures: 'auto', lookaside: base });
    await writeFile(join(to, 'ocp-images.txt'), `${reference}\n`);
    const built = join(work, 'built');
    await runBuild({ from: to, to: built, payloads: ['oci'] });
    const bundle = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built);
    const [image] = bundle.stages.installed?.images ?? [];
    assert.ok(image);
    assert.deepEqual(
      image.signatures,
      messages.map((message) => ({ kind: 'gpg', subject, file: digestOf(message) })),
    );
    assert.deepEqual(
      bundle.files.filter(({ path }) => path.startsWith('signatures/')).map(({ path }) => path),
      messages.map((message) => signaturePath(digestOf(message))).toSorted(),
    );
    const [found] = await readSignatures(built, image);
    const [held] = found?.held ?? [];
    const { exec } = linuxHost({ root: '/', env: {}, log: () => undefined });
    assert.ok(held?.kind === 'gpg');
    assert.match(String(await openSigned(exec, work, { message: held.message, keys: [key.publicKey] })), new RegExp(subject));
  });
});

describe('the lookaside of registries.d', () => {
  it('is that of the user, if the user has a directory of its own, else that of the machine', async () => {
    const root = await newFolder();
    const put = async (path: string, lookaside: string): Promise<void> => {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), `docker:\n  quay.io:\n    lookaside: ${lookaside}\n`);
    };
    const host = linuxHost({ root, env: { HOME: '/home/one' }, log: () => undefined });
    const found = async () => (await readUserRegistriesD(host)).scopes.get('quay.io')?.lookaside;
    assert.equal(await found(), undefined);
    await put('etc/containers/registries.d/quay.yaml', 'https://machine.example');
    assert.equal(await found(), 'https://machine.example');
    await put('home/one/.config/containers/registries.d/quay.yaml', 'https://user.example');
    assert.equal(await found(), 'https://user.example');
  });

  it('is asked for the images of its scope without a flag', async () => {
    const home = await newFolder();
    const directory = join(home, '.config/containers/registries.d');
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, 'one.yaml'), `docker:\n  ${registry.host}:\n    lookaside: ${base}/\n`);
    const { report } = await tryPull(await newFolder(), [reference], { signatures: 'auto', env: { HOME: home } });
    assert.deepEqual([report.images[0]?.gpgSigned, asked], [[subject], [1, 2, 3].map(pathOf)]);
    await writeFile(join(directory, 'one.yaml'), `docker:\n  ${registry.host}:\n    lookaside: ftp://one.example\n`);
    const refused = await tryPull(await newFolder(), [reference], { signatures: 'auto', env: { HOME: home } });
    assert.deepEqual([refused.report.outcome, refused.report.images[0]?.error?.code], ['failed', 'ERR_REGISTRIES_D']);
  });
});
