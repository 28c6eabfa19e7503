import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CACHE } from '../support/cache.ts';
import { startRegistry } from '../support/registry.ts';
import type { BenchSet } from './bench-images.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';
import { EXECUTABLE } from './workplace.ts';

/**
 * Pulls the set from a registry on loopback, by the prototype's flow and by the agent, one after the other.
 *
 * What came out on 2 cores that others used as well, in seconds: the agent with 1, 2, 4 and 8 images at a time 5.7, 3.7, 3.4 and 4 to 8; skopeo
 * into a `dir:` per image, hashed and moved into one folder, 2 at a time 12.5 to 13.1, since that fetches the shared layers for each image.
 */
export async function benchPull(set: BenchSet): Promise<PartFindings> {
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, '.bench-pull-'));
  try {
    await using registry = await startRegistry({ near: set.store });
    const list = join(work, 'ocp-images.txt');
    const references = await registry.add(set.store, set.images);
    await writeFile(list, references.map((reference) => `${reference}\n`).join(''));
    const [archives, layout] = [join(work, 'archives'), join(work, 'layout')];
    const prototype = await measured([join(import.meta.dirname, 'prototype-pull.sh'), list, archives], work);
    const pulling = (to: string, signatures: string): readonly string[] => [
      ...[EXECUTABLE, 'pull', '--list', list, '--to', to, '--no-tls-verify'],
      ...['--signatures', signatures],
    ];
    const unsigned = await measured(pulling(join(work, 'unsigned'), 'none'), work);
    const agent = await measured(pulling(layout, 'auto'), work);
    const again = await measured(pulling(layout, 'auto'), work);
    return {
      rows: [
        ['prototype, pull', prototype],
        ['agent, pull without signatures', unsigned],
        ['agent, pull', agent],
        ['agent, pull again', again],
      ],
      bars: [
        {
          what: 'pull, faster than the prototype',
          got: prototype.wallSeconds / agent.wallSeconds,
          wanted: 2,
          kind: 'least',
          unit: 'times',
        },
        {
          what: 'look-ups of signatures, of a pull',
          got: Math.max(0, 1 - unsigned.wallSeconds / agent.wallSeconds),
          wanted: 0.2,
          kind: 'most',
          unit: 'times',
        },
        {
          what: 'pulled bytes, of what the prototype leaves',
          got: (await bytesBelow(layout)) / (await bytesBelow(archives)),
          wanted: 0.25,
          kind: 'most',
          unit: 'times',
        },
      ],
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function measured(argv: readonly string[], work: string): Promise<Measurement> {
  const found = await measure({ argv, work });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}

async function bytesBelow(directory: string): Promise<number> {
  const files = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(async (file) => (await stat(join(file.parentPath, file.name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}
