import { link, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { CACHE } from '../support/cache.ts';
import { blobPath } from '../support/image-layer.ts';
import { blobMember, linksOf, mirrorBlobs } from '../support/mirror-archives.ts';
import type { BenchSet } from './bench-images.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';

/** Archives that the images are spread over; of one alone the rate is the same, since threads share its members. */
const ARCHIVES = 3;
/** Turns of each; the best is taken: what the machine does besides can only add to it. */
const ROUNDS = 3;

/**
 * Unpacks the images as archives of oc-mirror: by tar(1) alone, which verifies nothing, and by the agent, which hashes every blob, checks that
 * all images are whole, and syncs. Both are measured until all is on the disk.
 */
export async function benchOcMirror(set: BenchSet): Promise<PartFindings> {
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, '.bench-oc-mirror-'));
  try {
    const from = await writeArchives(set, work);
    const to = join(work, 'to');
    const tar = ['sh', '-c', 'mkdir "$2" && for file in "$1"/*.tar; do tar xf "$file" -C "$2" || exit; done', 'sh', from, to];
    const agent = [process.execPath, join(import.meta.dirname, 'unpack-mirror.ts'), from, to];
    const found = { tar: [] as Measurement[], agent: [] as Measurement[] };
    for (let round = 0; round < ROUNDS; round++) {
      found.tar.push(await measured(tar, work, to));
      found.agent.push(await measured(agent, work, to));
    }
    const seconds = (all: readonly Measurement[]): number => Math.min(...all.map((one) => one.durableSeconds));
    return {
      rows: [
        ['tar xf alone', best(found.tar)],
        ['oc-mirror archives, verified', best(found.agent)],
      ],
      bars: [
        {
          what: 'oc-mirror archives, speed of tar xf alone',
          got: seconds(found.tar) / seconds(found.agent),
          wanted: 0.7,
          kind: 'least',
          unit: 'times',
        },
      ],
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** By GNU tar over hard links, so that nothing of it has to be in memory. */
async function writeArchives(set: BenchSet, work: string): Promise<string> {
  const [from, tree] = [join(work, 'from'), join(work, 'tree')];
  await mkdir(from);
  const images = set.images.map((image, index) => ({ repository: 'openshift/release', tag: `4.14.0-${index}`, image }));
  const links = Object.entries(linksOf(images));
  for (const [path, text] of links) {
    await mkdir(dirname(join(tree, path)), { recursive: true });
    await writeFile(join(tree, path), text);
  }
  const blobs = mirrorBlobs(images);
  for (const digest of blobs) {
    await mkdir(dirname(join(tree, blobMember(digest))), { recursive: true });
    await link(blobPath(set.store, digest), join(tree, blobMember(digest)));
  }
  for (let number = 1; number <= ARCHIVES; number++) {
    const own = blobs.filter((_, index) => index % ARCHIVES === number - 1).map(blobMember);
    const input = [...(number === 1 ? links.map(([path]) => path) : []), ...own].join('\n');
    const archive = join(from, `mirror_00000${number}.tar`);
    await output(execOnLinux, 'tar', ['--format=posix', '--create', '--file', archive, '--directory', tree, '--files-from', '-'], {
      input,
    });
  }
  await rm(tree, { recursive: true });
  return from;
}

function best(all: readonly Measurement[]): Measurement {
  const [first] = all.toSorted((a, b) => a.durableSeconds - b.durableSeconds);
  if (first === undefined) throw new Error('nothing was measured');
  return first;
}

async function measured(argv: readonly string[], work: string, to: string): Promise<Measurement> {
  await rm(to, { recursive: true, force: true });
  const found = await measure({ argv, work });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}
