import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { readSourceImage } from '../../agent/factory/build/source-image.ts';
import { composeStore } from '../../agent/factory/build/store-copy.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { CACHE } from '../support/cache.ts';
import { writeOciLayout } from '../support/images.ts';
import type { BenchSet } from './bench-images.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';

/** Images that are packed: some 400 MB unpacked, as zstd takes half a minute for them on two cores. */
const IMAGES = 3;
/** Pairs; that with the middle ratio is taken, so that a noisy spell of the machine decides nothing. */
const ROUNDS = 3;

/**
 * Packs a store of some images: by mksquashfs(1) alone, as it comes from skopeo, and by the build's step, which makes it the same for the same
 * images first. Both with as many threads, zstd and caches dropped, turn by turn.
 */
export async function benchBuild(set: BenchSet): Promise<PartFindings> {
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, '.bench-build-'));
  try {
    const graphroot = await storeOf(set, work);
    const jobs = String(availableParallelism());
    const plain = [
      'mksquashfs',
      graphroot,
      join(work, 'plain.squashfs'),
      '-noappend',
      '-no-progress',
      '-quiet',
      '-comp',
      'zstd',
      '-processors',
      jobs,
    ];
    const step = [process.execPath, join(import.meta.dirname, 'pack-store.ts'), graphroot, join(work, 'step.squashfs'), jobs];
    const pairs: { readonly alone: Measurement; readonly agent: Measurement; readonly ratio: number }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const [alone, agent] = [await measured(plain, work), await measured(step, work)];
      pairs.push({ alone, agent, ratio: agent.wallSeconds / alone.wallSeconds });
    }
    const middle = pairs.toSorted((a, b) => a.ratio - b.ratio)[Math.floor(ROUNDS / 2)];
    if (middle === undefined) throw new Error('nothing was measured');
    const { alone, agent, ratio } = middle;
    const bar = { wanted: 1.05, kind: 'most', unit: 'times' } as const;
    return {
      rows: [
        ['mksquashfs alone', alone],
        ['build, squashfs step', agent],
      ],
      bars: [
        { ...bar, what: "build's squashfs step, of mksquashfs alone", got: ratio },
        // Both are bound by the processor: this says the same where others use the machine, too.
        { ...bar, what: "build's squashfs step, CPU of mksquashfs alone", got: agent.cpuSeconds / alone.cpuSeconds },
      ],
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function storeOf(set: BenchSet, work: string): Promise<string> {
  const layout = join(work, 'layout');
  const some = set.images.slice(-IMAGES);
  await writeOciLayout(set.store, some, layout);
  const images = await Promise.all(
    some.map(async ({ reference, digest }) => ({ reference, names: [reference], image: await readSourceImage(layout, digest, 'amd64') })),
  );
  const host = linuxHost({ root: '/', env: {}, log: (_, message) => process.stderr.write(`${message}\n`) });
  const { graphroot } = await composeStore(host, {
    layout,
    images,
    architecture: 'amd64',
    work: join(work, 'store'),
    jobs: availableParallelism(),
    signal: new AbortController().signal,
    onCopied: () => undefined,
  });
  return graphroot;
}

async function measured(argv: readonly string[], work: string): Promise<Measurement> {
  const found = await measure({ argv, work });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}
