import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parse } from 'yaml';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { BUNDLE_FILE, parseBundle, signaturePath } from '../../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../../agent/model/digest.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';
import { verify } from '../../../../agent/verify/verify.ts';
import { runBuild } from '../../../support/build.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import { type FactoryBench, makeFactoryBench } from '../../../support/prestage.ts';
import { tryPull } from '../../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../../support/registry.ts';

const MESSAGES = [Buffer.from('first OpenPGP message'), Buffer.from([0, 1, 2, 255])];

describe('the signatures of a release', () => {
  let set: ImageSet;
  let registry: Registry;
  let bench: FactoryBench;
  let work: string;
  let signatures: string;
  let references: readonly string[];

  before(async () => {
    set = await smallImageSet();
    registry = await startRegistry({ near: set.store });
    bench = await makeFactoryBench();
    const { release, whiteouts } = set.images;
    await registry.add(set.store, [release, whiteouts]);
    references = [release, whiteouts].map(({ reference }) => localReference(registry.host, reference));
    work = await mkdtemp(join(tmpdir(), 'release-signatures-'));
    signatures = join(work, 'signatures');
    const folder = join(signatures, `sha256=${hexOf(release.digest)}`);
    await mkdir(folder, { recursive: true });
    for (const [index, message] of MESSAGES.entries()) await writeFile(join(folder, `signature-${index + 1}`), message);
  });
  after(async () => {
    await bench[Symbol.asyncDispose]();
    await registry[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });
  const newFolder = async (): Promise<string> => await mkdtemp(join(work, 'to-'));
  const buildOf = async (from: string): Promise<string> => {
    await writeFile(join(from, 'ocp-images.txt'), references.map((line) => `${line}\n`).join(''));
    const to = join(await newFolder(), 'bundle');
    await runBuild({ from, to });
    return to;
  };
  const warningsOf = (log: readonly string[]): readonly string[] => log.filter((line) => line.startsWith('warning: '));
  /** Answers with these, in order, and then with the files. */
  const serve = async (answers: readonly (number | 'reset')[]) => {
    const asked: string[] = [];
    const left = [...answers];
    const server = createServer((request, response) => {
      asked.push(request.url ?? '');
      const next = left.shift();
      if (next === 'reset') return void request.socket.destroy();
      if (next !== undefined) return void response.writeHead(next).end();
      readFile(join(signatures, request.url ?? '')).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      );
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    return {
      url: `http://127.0.0.1:${address.port}/`,
      asked,
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  };

  it('come from a folder through pull and build into the ConfigMap of the cluster-version operator', async () => {
    const to = await newFolder();
    const { report } = await tryPull(to, references, { releaseSignatures: signatures });
    assert.equal(report.outcome, 'complete');
    const bundle = await buildOf(to);
    const { release } = set.images;
    const { releaseSignatures } = parseBundle(await readFile(join(bundle, BUNDLE_FILE), 'utf8'), bundle);
    assert.deepEqual(releaseSignatures, [{ release: release.digest, files: MESSAGES.map(digestOf) }]);
    const printed = await bench.prestage('manifests', '--as', 'signatures', '--bundle', bundle);
    assert.equal(printed.exitCode, 0, printed.stderr);
    const hex = hexOf(release.digest);
    const configMap = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: {
        name: `prestage-release-signatures-${hex.slice(0, 16)}`,
        namespace: 'openshift-config-managed',
        labels: { 'release.openshift.io/verification-signatures': '' },
      },
      binaryData: Object.fromEntries(MESSAGES.map((message, index) => [`sha256-${hex}-${index + 1}`, message.toString('base64')])),
    };
    assert.deepEqual(parse(printed.stdout), configMap);
    const all = await bench.prestage('manifests', '--as', 'all', '--bundle', bundle, '--output', 'json');
    assert.deepEqual(JSON.parse(all.stdout).items.at(-1), configMap);

    const verified = async () =>
      await verify(linuxHost({ root: '/', env: {}, log: () => undefined }), {
        path: bundle,
        mode: 'full',
        label: 'data',
        parallel: 2,
        architecture: 'amd64',
        signal: new AbortController().signal,
      });
    assert.deepEqual((await verified()).faults, []);
    const path = signaturePath(digestOf(MESSAGES[0] ?? ''));
    await writeFile(join(bundle, path), 'first OpenPGP massage');
    assert.deepEqual(
      (await verified()).faults.map((fault) => [fault.path, fault.code]),
      [[path, 'ERR_BUNDLE_FILE']],
    );
    const refused = await bench.prestage('manifests', '--as', 'signatures', '--bundle', bundle);
    assert.deepEqual([refused.exitCode, refused.stdout], [6, '']);
    assert.match(refused.stderr, /ERR_BUNDLE_FILE/);
  });

  it('come from an address, and a second pull asks for none that is there', async () => {
    const to = await newFolder();
    await using server = await serve([]);
    await tryPull(to, references, { releaseSignatures: server.url });
    const base = `/sha256=${hexOf(set.images.release.digest)}/signature-`;
    assert.deepEqual(server.asked, [`${base}1`, `${base}2`, `${base}3`]);
    await tryPull(to, references, { releaseSignatures: server.url });
    assert.equal(server.asked.length, 3);
  });

  it('are tried for again after a refusal or a fault, and only 404 means that there are none', async () => {
    const to = await newFolder();
    await using faulty = await serve([401, 403, 'reset']);
    await tryPull(to, references, { releaseSignatures: faulty.url });
    const copy = await newFolder();
    await cp(to, copy, { recursive: true });
    const built = parseBundle(await readFile(join(await buildOf(copy), BUNDLE_FILE), 'utf8'), copy);
    assert.equal(built.releaseSignatures?.[0]?.files.length, 2);

    for (const [status, code] of [
      [401, 'ERR_PULL_LOGIN'],
      [403, 'ERR_PULL_DENIED'],
      [429, 'ERR_PULL_LIMIT'],
      [503, 'ERR_PULL_SERVER'],
      ['reset', 'ERR_PULL_NETWORK'],
    ] as const) {
      await using refusing = await serve([status, status]);
      const options = { releaseSignatures: refusing.url, retries: 1 };
      const failed = await tryPull(await newFolder(), references, options).then(() => assert.fail(`${status} was absent`), errorRecord);
      assert.deepEqual(
        [failed.code, failed.remedy, refusing.asked.length],
        [code, 'Pull again later (pulled blobs are kept), or give another --release-signatures', 2],
      );
    }
    await using empty = await serve([404]);
    const without = await newFolder();
    const { report, log } = await tryPull(without, references, { releaseSignatures: empty.url });
    assert.equal(report.outcome, 'complete');
    assert.deepEqual(warningsOf(log), [`warning: ${empty.url} has no signature of the release ${references[0]}`]);
    const none = await bench.prestage('manifests', '--as', 'signatures', '--bundle', await buildOf(without));
    assert.equal(none.exitCode, 6);
    assert.match(none.stderr, /ERR_PAYLOAD_MISSING; next: Pull with --release-signatures, and build the bundle again/);
  });

  it('are not asked for of what is no release, nor at what is neither folder nor address', async () => {
    await using server = await serve([]);
    const { log } = await tryPull(await newFolder(), references.slice(1), { releaseSignatures: server.url });
    assert.deepEqual(
      [server.asked, warningsOf(log)],
      [[], ['warning: the lists contain no release image, so no release signatures were fetched']],
    );
    const wrong = await tryPull(await newFolder(), references, { releaseSignatures: join(work, 'nowhere') }).then(
      () => assert.fail('it was taken'),
      errorRecord,
    );
    assert.equal(wrong.code, 'ERR_USAGE');
    assert.equal((await bench.prestage('manifests', '--as', 'signatures')).exitCode, 2);
  });
});
