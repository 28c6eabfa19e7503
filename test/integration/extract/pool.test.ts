import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { cp, mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { type ArchivePool, createArchivePool } from '../../../agent/extract/pool.ts';
import { loadInflater } from '../../../agent/extract/raw-inflate.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { waitFor } from '../../support/agent.ts';
import { deflatedBomb, filesOf, NAME, rejection, unpack, workDirectory } from '../../support/archive-jobs.ts';
import { piecesOf } from '../../support/pieces.ts';
import { gzipMember, layoutEntries, makeLayout, tarEntry, tgz } from '../../support/tar.ts';

const layout = makeLayout();
const valid = tgz(layoutEntries(NAME, layout.files));
const top = new URL('../../../', import.meta.url).pathname;
const hex = 'd'.repeat(64);
const digest = `sha256:${hex}` as const;

const poolOf = (size: number): ArchivePool =>
  createArchivePool({ size, log: (severity, message) => assert.fail(`${severity}: ${message}`) });
const jobFor = (path: string): { path: string; name: string; architecture: string } => ({ path, name: NAME, architecture: 'amd64' });

/** A blob of 64 GiB in 64 MB: it takes minutes to read. */
function endless(): Buffer {
  return gzipMember(deflatedBomb(tarEntry({ name: `${NAME}/${hex}`, size: 32 * 2 ** 30 }), 32 * 1024), { crc: 0, lengthBytes: 0 });
}

describe('the archive pool', () => {
  it('surveys and unpacks more archives than it has threads', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(2);
    const path = await work.archive(valid);
    const targets = await Promise.all(Array.from({ length: 7 }, () => work.empty()));
    const [surveys, unpacked] = await Promise.all([
      Promise.all(targets.map(() => pool.survey(jobFor(path)))),
      Promise.all(targets.map((to) => pool.unpack({ ...jobFor(path), writeBlobs: layout.layers, to }))),
    ]);
    assert.deepEqual(new Set(surveys.map(({ topDigest }) => topDigest)), new Set([layout.topDigest]));
    assert.deepEqual(new Set(unpacked.map(({ blobs }) => blobs)), new Set([3]));
    const expected = new Map([...layout.files].sort(([a], [b]) => (a < b ? -1 : 1)));
    for (const to of targets) assert.deepEqual(await filesOf(to), expected);
  });

  it('rejects with the code, message and remedy that the thread found', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const path = join(work.path, 'none.tgz');
    assert.deepEqual(await rejection(pool.survey(jobFor(path))), {
      code: 'ERR_ARCHIVE_MISSING',
      message: `${path}: the file does not exist`,
      remedy: 'Write the archive again at the factory',
    });
  });

  it('reports how far it is, five times a second at most', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const path = await work.archive(endless());
    const { size } = await stat(path);
    const stop = new AbortController();
    const reports: number[] = [];
    const startMs = performance.now();
    const onProgress = (bytesRead: number): void => {
      reports.push(bytesRead);
      if (reports.length === 4) stop.abort(new Error('enough'));
    };
    await assert.rejects(pool.survey(jobFor(path), { signal: stop.signal, onProgress }), { message: 'enough' });
    assert.ok(performance.now() - startMs >= 4 * 200);
    assert.ok(reports.every((bytesRead, index) => bytesRead >= (reports[index - 1] ?? 1)));
    assert.ok(reports.every((bytesRead) => bytesRead <= size));
  });

  it('ends a job whose signal fires: nothing is written any more, and the next job finds a thread', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const path = await work.archive(endless(), 'endless');
    const to = await work.empty();
    const stop = new AbortController();
    const onProgress = (): void => stop.abort(new Error('given up'));
    const job = { ...jobFor(path), writeBlobs: [digest], to };
    await assert.rejects(pool.unpack(job, { signal: stop.signal, onProgress }), { message: 'given up' });
    const written = (await stat(join(to, hex))).size;
    await sleep(100);
    assert.equal((await stat(join(to, hex))).size, written);
    assert.ok(written > 0);
    assert.equal((await pool.survey(jobFor(await work.archive(valid)))).topDigest, layout.topDigest);
  });

  it('rejects a job that waits as soon as its signal fires, and one whose signal has fired already', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const path = await work.archive(endless());
    const busy = new AbortController();
    const running = rejection(pool.survey(jobFor(path), { signal: busy.signal }));
    const stop = new AbortController();
    const waiting = assert.rejects(pool.survey(jobFor(path), { signal: stop.signal }), { message: 'no more' });
    stop.abort(new Error('no more'));
    await waiting;
    await assert.rejects(pool.survey(jobFor(path), { signal: AbortSignal.abort(new Error('too late')) }), { message: 'too late' });
    busy.abort(new Error('done'));
    assert.equal((await running).message, 'done');
  });

  it('fails the job of a thread that runs out of memory, and goes on with a new one', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const manifest = Buffer.from(`[${'{},'.repeat(1_300_000)}{}]`);
    const path = await work.archive(tgz(layoutEntries(NAME, new Map([['manifest.json', manifest]]))), 'hungry');
    assert.deepEqual(await rejection(pool.survey(jobFor(path))), {
      code: 'ERR_ARCHIVE_WORKER',
      message: `${path}: the thread that was reading it ended unexpectedly: Worker terminated due to reaching memory limit: JS heap out of memory`,
      remedy: 'Start the run again; if it fails again, write the archive again at the factory',
    });
    assert.equal((await pool.survey(jobFor(await work.archive(valid)))).topDigest, layout.topDigest);
  });

  it('gives up what runs and what waits when it is disposed of', async () => {
    await using work = await workDirectory();
    const pool = poolOf(1);
    const path = await work.archive(endless());
    const jobs = [rejection(pool.survey(jobFor(path))), rejection(pool.survey(jobFor(path)))];
    await sleep(50);
    await pool[Symbol.asyncDispose]();
    const refusal = {
      code: 'ERR_INTERRUPTED',
      message: 'reading the archive was aborted because the run is ending',
      remedy: 'Start the run again',
    };
    assert.deepEqual(await Promise.all(jobs), [refusal, refusal]);
  });

  it('hashes the pieces of a file beside the whole, which an empty file has none of', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const file = async (bytes: Buffer): Promise<string> => {
      const path = join(work.path, `of-${bytes.length}`);
      await writeFile(path, bytes);
      return path;
    };
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 3 * 2 ** 20 }), fc.integer({ min: 50_000, max: 2 ** 21 }), async (sizeBytes, pieceBytes) => {
        const bytes = randomBytes(sizeBytes);
        assert.deepEqual(await pool.hash({ path: await file(bytes), pieceBytes }), {
          sha256: sha256Of(bytes),
          sizeBytes,
          pieces: piecesOf(bytes, pieceBytes).sha256,
        });
      }),
      { numRuns: 20 },
    );
    assert.deepEqual(await pool.hash({ path: await file(Buffer.alloc(0)), pieceBytes: 1 }), {
      sha256: sha256Of(Buffer.alloc(0)),
      sizeBytes: 0,
      pieces: [],
    });
  });

  it('hashes pieces that a boot waits for at the usual priority, and all else below it', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(1);
    const path = join(work.path, 'zeros');
    const sizeBytes = 2 ** 28;
    await writeFile(path, '');
    await truncate(path, sizeBytes);
    await pool.hash({ path: await work.archive(valid) });
    const [thread = '', ...others] = (await niceValues()).filter(([, nice]) => nice === 10).map(([id]) => id);
    assert.deepEqual(others, []);
    const seen = new Set<number | undefined>();
    const watching = new AbortController();
    const watched = (async () => {
      while (!watching.signal.aborted) {
        seen.add(new Map(await niceValues()).get(thread));
        await sleep(5);
      }
    })();
    const sha256 = [sha256Of(Buffer.alloc(sizeBytes))];
    const next = new Int32Array(new SharedArrayBuffer(4));
    const copied = await pool.copyPieces({ path, sizeBytes, pieceBytes: sizeBytes, sha256, next });
    watching.abort();
    await watched;
    assert.deepEqual(copied, { wrong: undefined });
    assert.ok(seen.has(0), [...seen].join());
    assert.equal(new Map(await niceValues()).get(thread), 10);
  });

  it('reads at the low priority that the process has, without the capability to go up', async () => {
    await using work = await workDirectory();
    const path = await work.archive(valid);
    const script = `
      import { createArchivePool } from ${JSON.stringify(resolve('agent/extract/pool.ts'))};
      import { readFileSync, readdirSync } from 'node:fs';
      await using pool = createArchivePool({ size: 1, log: (severity, message) => console.log(severity + ': ' + message) });
      await pool.hash({ path: ${JSON.stringify(path)} });
      const nice = readdirSync('/proc/self/task').map((id) => readFileSync('/proc/self/task/' + id + '/stat', 'utf8').replace(/^.*\\) /, '').split(' ')[16]);
      console.log([...new Set(nice)].join());`;
    const bounds = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-sys_nice'] : [];
    const module = join(work.path, 'script.ts');
    await writeFile(module, script);
    const argv = [...bounds, 'nice', '-n', '19', process.execPath, module];
    assert.deepEqual(await execOnLinux('env', argv), { exitCode: 0, stdout: '19', stderr: '' });
  });

  it('starts threads ahead of their jobs where asked, never more than it has, and uses them', async () => {
    await using work = await workDirectory();
    await using pool = poolOf(2);
    const threads = async (): Promise<readonly string[]> => (await niceValues()).filter(([, nice]) => nice === 10).map(([id]) => id);
    pool.start(5);
    const started = await waitFor('two threads', async () => ((await threads()).length >= 2 ? await threads() : undefined));
    pool.start(5);
    const path = await work.archive(valid);
    await Promise.all([1, 2, 3].map(() => pool.survey(jobFor(path))));
    assert.deepEqual([started.length, await threads()], [2, started]);
  });

  it('says once that it goes without the addon where that is missing, and reads all the same', async () => {
    await using work = await workDirectory();
    const path = await work.archive(valid);
    const tree = join(work.path, 'tree');
    await copyWithoutAddon(tree);
    const script = `
      import { createArchivePool } from './agent/extract/pool.ts';
      await using pool = createArchivePool({ size: 2, log: (severity, message) => console.log(severity + ': ' + message) });
      const job = ${JSON.stringify(jobFor(path))};
      const surveys = await Promise.all([1, 2, 3].map(() => pool.survey(job)));
      console.log(surveys.map(({ topDigest }) => topDigest).join());`;
    await writeFile(join(tree, 'script.ts'), script);
    const lines = (await output(execOnLinux, process.execPath, [join(tree, 'script.ts')])).split('\n');
    assert.deepEqual(lines, [
      "warning: zlib-sync cannot be loaded (Cannot find module 'zlib-sync'); archives are inflated with node:zlib, which is slower",
      [layout.topDigest, layout.topDigest, layout.topDigest].join(),
    ]);
  });
});

describe('the addon, as the executable carries it', () => {
  const library = join(top, 'node_modules/zlib-sync/build/Release/zlib_sync.node');

  it('is loaded from its bytes, and leaves no file behind', async () => {
    await using work = await workDirectory();
    const before = await leftBehind();
    const inflater = loadInflater({ kind: 'bytes', bytes: await readFile(library), sha256: '' });
    assert.deepEqual(inflater.uses, { kind: 'addon' });
    assert.equal((await unpack({ path: await work.archive(valid), to: await work.empty() }, inflater)).topDigest, layout.topDigest);
    assert.deepEqual(await leftBehind(), before);
  });

  it('is replaced by node:zlib where its bytes are no library, with a reason for every place that was tried', async () => {
    await using work = await workDirectory();
    const before = await leftBehind();
    const inflater = loadInflater({ kind: 'bytes', bytes: Buffer.from('no library'), sha256: '' });
    assert.ok(inflater.uses.kind === 'node');
    assert.deepEqual(
      inflater.uses.reason.split('; ').map((reason) => reason.replace(/: \/.*: /, ': FILE: ')),
      ['/run', '/tmp'].map((place) => `${place}: FILE: file too short`),
    );
    assert.equal((await unpack({ path: await work.archive(valid), to: await work.empty() }, inflater)).topDigest, layout.topDigest);
    assert.deepEqual(await leftBehind(), before);
  });
});

/** The threads of this process and their nice values. Source: proc_pid_stat(5), field 19. */
async function niceValues(): Promise<readonly (readonly [string, number])[]> {
  const ids = await readdir('/proc/self/task');
  const stats = await Promise.all(
    ids.map(async (id) => [id, await readFile(`/proc/self/task/${id}/stat`, 'utf8').catch(() => '')] as const),
  );
  return stats.flatMap(([id, text]) => (text === '' ? [] : [[id, Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[16])] as const]));
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** The sources in a tree whose packages lack zlib-sync. */
async function copyWithoutAddon(tree: string): Promise<void> {
  await mkdir(join(tree, 'node_modules'), { recursive: true });
  await cp(join(top, 'agent'), join(tree, 'agent'), { recursive: true });
  await cp(join(top, 'package.json'), join(tree, 'package.json'));
  for (const name of await readdir(join(top, 'node_modules'))) {
    if (name !== 'zlib-sync') await symlink(join(top, 'node_modules', name), join(tree, 'node_modules', name));
  }
}

async function leftBehind(): Promise<readonly string[]> {
  const places = ['/run', '/tmp'];
  const names = await Promise.all(places.map((place) => readdir(place).catch(() => [])));
  return names.flat().filter((name) => name.startsWith('prestage-agent-addon-'));
}
