import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { type ArchivePool, createArchivePool } from '../../agent/extract/pool.ts';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import type { Digest } from '../../agent/model/digest.ts';
import { layoutEntries, makeLayout, tarEntry } from '../support/tar.ts';

/**
 * Measures how fast archives are read, and what memory that takes: `node test/bench/inflate.ts [MB] [THREADS]`.
 * The layers are random bytes, as incompressible as real ones. Prints MB/s of archive, against `gzip -dc | sha256sum`.
 */
const [megabytes = 200, threads = 3] = process.argv.slice(2).map(Number);
const LAYERS = 4;
const NAME = 'bench_latest';
const made = process.env.BENCH_MAKE;
// The archive is made in a process of its own, so that its memory is not counted.
if (made === undefined) await measure();
else await makeArchive(made);

async function measure(): Promise<void> {
  const work = await mkdtemp(join(process.env.BENCH_DIR ?? tmpdir(), 'prestage-inflate-'));
  const path = join(work, `${NAME}.tgz`);
  let peakBytes = 0;
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, process.memoryUsage.rss());
  }, 5);
  try {
    await output(execOnLinux, process.execPath, [import.meta.filename, String(megabytes)], { env: { BENCH_MAKE: path } });
    const { size } = await stat(path);
    const show = async (what: string, copies: number, act: () => Promise<unknown>): Promise<void> => {
      const startMs = performance.now();
      await act();
      const ms = performance.now() - startMs;
      console.log(`${what.padEnd(32)} ${((size * copies) / 1e3 / ms).toFixed(0).padStart(5)} MB/s ${(ms / 1e3).toFixed(2).padStart(6)} s`);
    };
    await show('gzip -dc | sha256sum', 1, () => output(execOnLinux, 'sh', ['-c', `gzip -dc ${path} | sha256sum`]));
    await using pool = createArchivePool({ size: threads, log: (_, message) => console.log(message) });
    const { image } = await pool.survey({ path, name: NAME, architecture: 'amd64' });
    const blobs = image.layers.map(({ digest }) => digest);
    const each = Array.from({ length: 2 * threads }, (_, index) => index);
    await show('survey, manifest.json last', 1, () => pool.survey({ path, name: NAME, architecture: 'amd64' }));
    await show('unpack, checks only', 1, () => unpack(pool, path, [], join(work, 'checked')));
    await show('unpack, writes all', 1, () => unpack(pool, path, blobs, join(work, 'written')));
    await show(`${threads} threads, checks only`, each.length, () =>
      Promise.all(each.map((n) => unpack(pool, path, [], join(work, `c${n}`)))),
    );
    await show(`${threads} threads, writes all`, each.length, () =>
      Promise.all(each.map((n) => unpack(pool, path, blobs, join(work, `d${n}`)))),
    );
    console.log(`peak RSS of this process: ${(peakBytes / 2 ** 20).toFixed(0)} MiB`);
  } finally {
    clearInterval(timer);
    await rm(work, { recursive: true, force: true });
  }
}

async function makeArchive(path: string): Promise<void> {
  const layout = makeLayout(Array.from({ length: LAYERS }, () => randomBytes(Math.floor((megabytes * 1e6) / LAYERS))));
  const entries = function* (): Generator<Buffer> {
    for (const entry of layoutEntries(NAME, new Map([...layout.files].reverse()))) yield tarEntry(entry);
    yield Buffer.alloc(10_240);
  };
  await pipeline(Readable.from(entries()), createGzip(), createWriteStream(path));
}

async function unpack(pool: ArchivePool, path: string, writeBlobs: readonly Digest[], to: string): Promise<void> {
  await mkdir(to);
  await pool.unpack({ path, name: NAME, architecture: 'amd64', writeBlobs, to });
  await rm(to, { recursive: true });
}
