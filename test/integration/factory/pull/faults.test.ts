import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { layoutImage, readOciLayout } from '../../../../agent/extract/oci-layout.ts';
import { isTemporary } from '../../../../agent/host/atomic.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';
import { waitFor } from '../../../support/agent.ts';
import { builtExecutable } from '../../../support/executable.ts';
import { type Fault, type FaultProxy, startFaultProxy } from '../../../support/fault-proxy.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import { neededBlobs, transferBytes, tryPull, wholeBlobs } from '../../../support/pulls.ts';
import { localReference, type Registry, startRegistry } from '../../../support/registry.ts';

let set: ImageSet;
let registry: Registry;
let proxy: FaultProxy;
let work: string;
let references: readonly string[];

before(async () => {
  set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  proxy = await startFaultProxy(registry.port);
  await registry.add(set.store, set.all);
  references = set.all.map((image) => localReference(proxy.host, image.reference));
  work = await mkdtemp(join(tmpdir(), 'pull-faults-'));
});
after(async () => {
  await proxy[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

const newFolder = async () => await mkdtemp(join(work, 'to-'));
const MANIFEST = /^GET .*\/manifests\//;
const BLOB = /^GET .*\/blobs\//;

describe('a pull through a registry that fails for a moment', () => {
  const cases: readonly (readonly [string, RegExp, Fault, string])[] = [
    ['503 for a manifest', MANIFEST, { kind: 'status', status: 503 }, 'ERR_PULL_SERVER'],
    ['500 for a blob', BLOB, { kind: 'status', status: 500 }, 'ERR_PULL_SERVER'],
    ['a reset instead of a manifest', MANIFEST, { kind: 'reset' }, 'ERR_PULL_NETWORK'],
    ['a reset instead of a blob', BLOB, { kind: 'reset' }, 'ERR_PULL_NETWORK'],
    ['the end of a connection in the middle of a blob', BLOB, { kind: 'truncate', bytes: 5000 }, 'ERR_PULL_NETWORK'],
  ];
  for (const [what, on, fault, code] of cases) {
    it(`tries again after ${what}, and is complete`, async () => {
      const to = await newFolder();
      proxy.set([{ on, times: 2, fault }]);
      const { report, events } = await tryPull(to, references);
      assert.deepEqual([report.outcome, await wholeBlobs(to)], ['complete', neededBlobs(set.all)]);
      const retried = events.flatMap((event) => (event.kind === 'image-retried' ? [event.error.code] : []));
      assert.deepEqual(new Set(retried), new Set([code]));
    });
  }

  it('waits where it is asked for fewer requests, and is complete', async () => {
    const to = await newFolder();
    proxy.set([{ on: BLOB, times: 1, fault: { kind: 'status', status: 429 } }]);
    const { report } = await tryPull(to, references.slice(0, 2));
    assert.deepEqual([report.outcome, await wholeBlobs(to)], ['complete', neededBlobs(set.all.slice(0, 2))]);
  });

  it('gives up a transfer that brings nothing, and tries again', async () => {
    const to = await newFolder();
    proxy.set([{ on: BLOB, times: 1, fault: { kind: 'stall', bytes: 1000, ms: 60_000 } }]);
    const { report, events } = await tryPull(to, references.slice(0, 3), { stallMs: 1500 });
    assert.equal(report.outcome, 'complete');
    const [error] = events.flatMap((event) => (event.kind === 'image-retried' ? [event.error] : []));
    assert.equal(error?.code, 'ERR_PULL_NETWORK');
    assert.match(error.message, /: the connection to the registry failed: timeout awaiting data for 1\.5 s$/);
  });

  it('fails with the last reason when its attempts are used up, and brings the other images', async () => {
    const to = await newFolder();
    const { agent } = set.images;
    const own = agent.instances[0]?.layers.at(-1)?.digest ?? '';
    proxy.set([{ on: new RegExp(`blobs/${own}`), fault: { kind: 'status', status: 503 } }]);
    const { report, events } = await tryPull(to, references, { retries: 2 });
    const failed = report.images.filter(({ state }) => state !== 'pulled');
    assert.deepEqual(
      [report.outcome, failed.map(({ state, error }) => [state, error?.code])],
      ['partial', [['failed', 'ERR_PULL_SERVER']]],
    );
    assert.equal(events.filter(({ kind }) => kind === 'image-retried').length, 2);
    assert.equal((await readOciLayout(to)).length, set.all.length - 1);
    proxy.set([]);
    const again = await tryPull(to, references);
    assert.deepEqual([again.report.outcome, again.fetchedBytes], ['complete', again.report.fetchBytes]);
    assert.deepEqual(await wholeBlobs(to), neededBlobs(set.all));
  });
});

describe('a pull of what a registry does not give', () => {
  const cases: readonly (readonly [string, RegExp, Fault, string])[] = [
    ['401', MANIFEST, { kind: 'status', status: 401 }, 'ERR_PULL_LOGIN'],
    ['403', MANIFEST, { kind: 'status', status: 403 }, 'ERR_PULL_DENIED'],
    ['404', MANIFEST, { kind: 'status', status: 404 }, 'ERR_PULL_MISSING'],
    ['404 for a blob', BLOB, { kind: 'status', status: 404 }, 'ERR_PULL_MISSING'],
    ['a changed manifest', MANIFEST, { kind: 'corrupt' }, 'ERR_PULL_DIGEST'],
    ['a changed blob', BLOB, { kind: 'corrupt' }, 'ERR_PULL_DIGEST'],
    ['a blob that is too short', BLOB, { kind: 'shorten', bytes: 100 }, 'ERR_PULL_DIGEST'],
  ];
  for (const [what, on, fault, code] of cases) {
    it(`is not tried again after ${what}`, async () => {
      const to = await newFolder();
      const wanted = localReference(proxy.host, set.images.oci.reference);
      proxy.set([{ on, fault }]);
      const { report, events } = await tryPull(to, [wanted]);
      assert.deepEqual([report.outcome, report.images.map(({ error }) => error?.code)], ['failed', [code]]);
      assert.deepEqual(
        events.filter(({ kind }) => kind === 'image-retried'),
        [],
      );
      assert.match(report.images[0]?.error?.message ?? '', /ocp-v4\.0-art-dev@sha256:/);
      assert.ok((await wholeBlobs(to)).every((digest) => neededBlobs([set.images.oci]).includes(digest)));
    });
  }
});

describe('a pull into a folder that is too small', () => {
  const onTmpfs = async (sizeKib: number, act: (to: string) => Promise<void>): Promise<void> => {
    const to = await newFolder();
    await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', `size=${sizeKib}k`, 'tmpfs', to]);
    try {
      await act(to);
    } finally {
      await output(execOnLinux, 'umount', [to]);
    }
  };

  it('does not start, and says what it needs', async () => {
    proxy.set([]);
    await onTmpfs(4096, async (to) => {
      const error = await tryPull(to, references).then(() => undefined, errorRecord);
      assert.equal(error?.code, 'ERR_SPACE_PULL');
      assert.match(error.message, /^\S+ needs 8\.\d MiB but has \d\.\d MiB free$/);
      assert.deepEqual(await readdir(join(to, 'blobs/sha256')), []);
    });
  });

  it('stops where another fills it meanwhile, with no blob half there, and goes on when there is room', async () => {
    await onTmpfs(16 * 1024, async (to) => {
      const filler = join(to, 'filler');
      const { bfree, bsize } = await statfs(to);
      const fill = (): void => writeFileSync(filler, Buffer.alloc(bfree * bsize - 3 * 1024 * 1024));
      const { report } = await tryPull(to, references, { onEvent: ({ kind }) => (kind === 'planned' ? fill() : undefined) });
      assert.ok(['partial', 'failed'].includes(report.outcome), report.outcome);
      assert.ok(report.images.some(({ error }) => error?.code === 'ERR_SPACE_PULL'));
      await wholeBlobs(to);
      await rm(filler);
      assert.equal((await tryPull(to, references)).report.outcome, 'complete');
      assert.deepEqual(await wholeBlobs(to), neededBlobs(set.all));
    });
  });
});

describe('the command that is ended in the middle', () => {
  const isBlob = (name: string) => !isTemporary(name);
  /** Starts a pull that gets all blobs but one, and waits until it has some. */
  const startPull = async (to: string) => {
    const list = join(work, 'list.txt');
    await writeFile(list, references.map((reference) => `${reference}\n`).join(''));
    const last = set.images.oci.instances[0]?.layers.at(-1)?.digest ?? '';
    proxy.set([{ on: new RegExp(`blobs/${last}`), fault: { kind: 'stall', bytes: 5000, ms: 120_000 } }]);
    const args = ['pull', '--list', list, '--to', to, '--no-tls-verify', '--output', 'json'];
    const child = spawn(await builtExecutable(), args, { stdio: ['ignore', 'pipe', 'ignore'] });
    let stdout = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    const isHalf = async () => {
      const names = await readdir(join(to, 'blobs/sha256')).catch(() => []);
      return names.filter(isBlob).length >= 4 ? true : undefined;
    };
    await waitFor('the first blobs', isHalf);
    const closed = once(child, 'close');
    return { child, closed, stdout: () => stdout };
  };

  for (const [signal, exitCode] of [
    ['SIGTERM', 11],
    ['SIGKILL', null],
  ] as const) {
    it(`by ${signal} leaves whole blobs only, and the next pull goes on from there`, async () => {
      const to = join(work, signal);
      const { child, closed, stdout } = await startPull(to);
      child.kill(signal);
      assert.deepEqual((await closed)[0], exitCode);
      if (signal === 'SIGTERM') assert.equal(JSON.parse(stdout()).outcome, 'interrupted');
      // What was being written when it was killed is there under another name, and the next pull takes it away.
      const there = await wholeBlobs(to, signal === 'SIGKILL' ? isBlob : undefined);
      const entries = await readOciLayout(to).catch(() => []);
      for (const { digest } of entries) await layoutImage(to, digest, 'amd64');
      proxy.set([]);
      const { report, fetchedBytes } = await tryPull(to, references);
      assert.deepEqual([report.outcome, await wholeBlobs(to)], ['complete', neededBlobs(set.all)]);
      assert.ok(there.length >= 4 && fetchedBytes < transferBytes(set.all), `${fetchedBytes} bytes came again`);
      assert.deepEqual((await readdir(to)).sort(), ['absent-instances.json', 'blobs', 'index.json', 'oci-layout', 'ocp-images.txt']);
    });
  }
});

describe('the exit code and answer of the command', () => {
  const pullBy = async (lines: readonly string[], ...flags: readonly string[]) => {
    const directory = await newFolder();
    const list = join(directory, 'list.txt');
    await writeFile(list, lines.map((line) => `${line}\n`).join(''));
    const to = join(directory, 'to');
    await mkdir(to);
    const args = ['pull', '--list', list, '--to', to, '--no-tls-verify', ...flags];
    return { ...(await execOnLinux(await builtExecutable(), args)), list, to };
  };
  const good = () => localReference(registry.host, set.images.agent.reference);
  const missing = () => `${registry.host}/example/troubleshoot:nowhere`;

  it('are 3 where some images failed, each listed at the end with its remedy', async () => {
    const { exitCode, stdout } = await pullBy([good(), missing()]);
    assert.equal(exitCode, 3);
    const [first, ...rest] = stdout.split('\n');
    assert.match(first ?? '', /^partial: 1 pulled, 1 failed in [^;]+; 1\.9 MiB were missing, 0 B already present$/);
    assert.deepEqual(rest, [
      `  failed ${missing()}`,
      `    ERR_PULL_MISSING: ${missing()}: the registry has no such image: Error parsing image name "docker://${missing()}": reading manifest nowhere in ${registry.host}/example/troubleshoot: manifest unknown: manifest unknown`,
      '    next: Correct the list, or mirror the image to that registry first',
    ]);
  });

  it('are 4 where all failed, and 0 where none did', async () => {
    assert.equal((await pullBy([missing()])).exitCode, 4);
    const { exitCode, stdout } = await pullBy([good()], '--output', 'json');
    const { durationMs: _, ...answer } = JSON.parse(stdout);
    const { agent } = set.images;
    const bytes = transferBytes([agent]);
    assert.deepEqual(
      [exitCode, { ...answer, to: '' }],
      [
        0,
        {
          apiVersion: 'prestage-agent/v1',
          kind: 'Pull',
          to: '',
          format: 'oci',
          outcome: 'complete',
          images: [{ reference: good(), state: 'pulled', digest: agent.digest, sizeBytes: bytes, fetchBytes: bytes, signed: [] }],
          fetchBytes: bytes,
          keptBytes: 0,
        },
      ],
    );
  });

  it('are 2 for flags, and 6 for lists, that cannot be read, and say every fault', async () => {
    const usage = await pullBy([good()], '--parallel', '0', '--format', 'tar');
    assert.equal(usage.exitCode, 2);
    assert.match(usage.stderr, /pull cannot start: --format must be oci or archives; --parallel is less than 1\n/);
    const { exitCode, stderr, list } = await pullBy([good(), 'Not a reference!', '\u001b[2J']);
    assert.equal(exitCode, 6);
    assert.ok(stderr.includes(`${list}:2: "Not" is not an image reference`) && stderr.includes(`${list}:3: "\\u001b[2J"`), stderr);
  });

  it('are read from the standard input where the list is -', async () => {
    const to = await newFolder();
    const args = ['pull', '--list', '-', '--to', to, '--no-tls-verify'];
    const { exitCode } = await execOnLinux(await builtExecutable(), args, { input: `${good()}\r\n# a comment\r\n` });
    assert.equal(exitCode, 0);
    assert.ok((await readFile(join(to, 'index.json'), 'utf8')).includes(good()));
  });
});
