import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { compressionArgs, planCompression } from '../../agent/factory/compose/store-compression.ts';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { compressionText, type StoreCompression } from '../../agent/model/bundle.ts';
import { CACHE } from '../support/cache.ts';
import type { BenchSet } from './bench-images.ts';
import { storeOf } from './build.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';

/** What mksquashfs(1) takes by itself: the yardstick. */
const OWN_DEFAULT = { algorithm: 'zstd', level: 15 } as const;
const TRIED: readonly StoreCompression[] = [
  ...[1, 3, 6, 9, 12, 15].map((level) => ({ algorithm: 'zstd' as const, level })),
  ...[1, 4, 6, 9].map((level) => ({ algorithm: 'gzip' as const, level })),
  { algorithm: 'xz' },
];

interface Tried {
  readonly name: string;
  readonly pack: Measurement;
  readonly sizeBytes: number;
  readonly mount: Measurement;
  readonly read: Measurement;
}

/**
 * Packs a store by each compression that a build offers, mounts it, and reads every file of it: what chose the levels that a build takes if none is
 * asked for. CPU says the same where others use the machine, too; the peak RSS is that of mksquashfs.
 */
export async function benchCompression(set: BenchSet): Promise<PartFindings> {
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, '.bench-compression-'));
  try {
    const graphroot = await storeOf(set, work);
    const tried: Tried[] = [];
    for (const compression of TRIED) tried.push(await tryOne(graphroot, work, compression));
    const named = (compression: StoreCompression): Tried | undefined => tried.find(({ name }) => name === compressionText(compression));
    const [usual, own] = [named(planCompression('', 'auto', undefined)), named(OWN_DEFAULT)];
    if (usual === undefined || own === undefined) throw new Error('the default of a build is not among what was tried');
    const ratio = (by: (one: Tried) => number): number => by(usual) / by(own);
    return {
      rows: tried.flatMap(({ name, pack, mount, read }) => [
        [`pack, ${name}`, pack] as const,
        [`mount, ${name}`, mount] as const,
        [`read all, ${name}`, read] as const,
      ]),
      bars: [
        ...tried.map(({ name, sizeBytes }) => ({
          what: `size, ${name}`,
          got: sizeBytes,
          wanted: 2 * own.sizeBytes,
          kind: 'most' as const,
          unit: 'bytes' as const,
        })),
        {
          what: 'packing by default, of the speed of zstd level 15',
          got: 1 / ratio(({ pack }) => pack.cpuSeconds),
          wanted: 5,
          kind: 'least',
          unit: 'times',
        },
        { what: 'size by default, of zstd level 15', got: ratio(({ sizeBytes }) => sizeBytes), wanted: 1.08, kind: 'most', unit: 'times' },
      ],
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function tryOne(graphroot: string, work: string, compression: StoreCompression): Promise<Tried> {
  const image = join(work, 'store.squashfs');
  const point = join(work, 'point');
  await rm(image, { force: true });
  await mkdir(point, { recursive: true });
  const quiet = ['-noappend', '-no-progress', '-quiet', '-xattrs', '-processors', String(availableParallelism())];
  const pack = await succeeded(['mksquashfs', graphroot, image, ...quiet, ...compressionArgs(compression)], work);
  const mount = await succeeded(['mount', '-t', 'squashfs', '-o', 'loop,ro', image, point], work);
  try {
    const read = await succeeded(['sh', '-c', 'find "$0" -type f -exec cat {} + | wc -c', point], work);
    return { name: compressionText(compression), pack, sizeBytes: (await stat(image)).size, mount, read };
  } finally {
    await output(execOnLinux, 'umount', [point]);
  }
}

async function succeeded(argv: readonly string[], work: string): Promise<Measurement> {
  const found = await measure({ argv, work });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}
