import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { readSourceImage } from '../../agent/factory/compose/source-image.ts';
import { composeStore } from '../../agent/factory/compose/store-copy.ts';
import { linuxHost } from '../../agent/host/linux.ts';
import { CACHE } from '../support/cache.ts';
import { writeOciLayout } from '../support/images.ts';
import type { BenchSet } from './bench-images.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';

/** Images that are packed: some 400 MB unpacked, as zstd takes half a minute for them on two cores. */
const IMAGES = 3;
/** Turns of each; the best is taken: what the machine does besides can only add to it. */
const ROUNDS = 3;

/**
 * Packs a store of some images: by mksquashfs(1) alone, as it comes from skopeo, and by the build's step, which makes it the same for the same
 * images first. Both with as many threads, zstd and caches dropped, turn by turn.
 *
 * What the step adds, on a store of 22,000 files and 616 MB: 0.3 s to make it the same, and 0.3 s for this program to start.
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
    const found = { plain: [] as Measurement[], step: [] as Measurement[] };
    for (let round = 0; round < ROUNDS; round++) {
      found.plain.push(await measured(plain, work));
      found.step.push(await measured(step, work));
    }
    const ratio = (by: (one: Measurement) => number): number => Math.min(...found.step.map(by)) / Math.min(...found.plain.map(by));
    const bar = { wanted: 1.05, kind: 'most', unit: 'times' } as const;
    return {
      rows: [
        ['mksquashfs alone', best(found.plain)],
        ['build, squashfs step', best(found.step)],
      ],
      bars: [
        { ...bar, what: "build's squashfs step, of mksquashfs alone", got: ratio((one) => one.wallSeconds) },
        // Both are bound by the processor: this says the same where others use the machine, too.
        { ...bar, what: "build's squashfs step, CPU of mksquashfs alone", got: ratio((one) => one.cpuSeconds) },
      ],
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Unpacks some images of the set into a storage. */
export async function storeOf(set: BenchSet, work: string): Promise<string> {
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

function best(all: readonly Measurement[]): Measurement {
  const [first] = all.toSorted((a, b) => a.wallSeconds - b.wallSeconds);
  if (first === undefined) throw new Error('nothing was measured');
  return first;
}

async function measured(argv: readonly string[], work: string): Promise<Measurement> {
  const found = await measure({ argv, work });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}
