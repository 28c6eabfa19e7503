import { link, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createArchivePool } from '../../agent/extract/pool.ts';
import { BUNDLE_FILE, type BundlePayload, formatBundle } from '../../agent/model/bundle.ts';
import { CACHE } from '../support/cache.ts';
import { writeOciLayout } from '../support/images.ts';
import type { BenchSet } from './bench-images.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';
import { EXECUTABLE } from './workplace.ts';

/**
 * Verifies a bundle in full, against sha256sum(1) over the same files one after another: with the OCI layout, where the hashes of the files
 * are the digests of the blobs, and with the archives, which are read a second time to hold their blobs against their digests.
 */
export async function benchVerify(set: BenchSet): Promise<PartFindings> {
  await mkdir(CACHE, { recursive: true });
  const work = await mkdtemp(join(CACHE, '.bench-verify-'));
  try {
    const oci = join(work, 'with-oci');
    await writeOciLayout(set.store, set.images, join(oci, 'oci'));
    await sealAt(oci, set, { kind: 'oci', path: 'oci' });
    const archives = join(work, 'with-archives');
    await mkdir(join(archives, 'archives'), { recursive: true });
    for (const name of await readdir(set.archives)) await link(join(set.archives, name), join(archives, 'archives', name));
    await sealAt(archives, set, { kind: 'archives', path: 'archives' });
    const found = { oci: await both(oci, work), archives: await both(archives, work) };
    return {
      rows: [
        ['sha256sum, OCI layout', found.oci.plain],
        ['agent, verify OCI layout', found.oci.agent],
        ['sha256sum, archives', found.archives.plain],
        ['agent, verify archives', found.archives.agent],
      ],
      bars: [bar('an OCI layout', found.oci), bar('archives', found.archives)],
    };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface Pair {
  readonly plain: Measurement;
  readonly agent: Measurement;
}

async function both(directory: string, work: string): Promise<Pair> {
  const hashAll = 'cd "$1" && find . -type f -exec sha256sum {} + >/dev/null';
  const plain = await measured(['sh', '-c', hashAll, 'sh', directory], work);
  return { plain, agent: await measured([EXECUTABLE, 'verify', directory, '--full'], work) };
}

function bar(what: string, { plain, agent }: Pair): PartFindings['bars'][number] {
  return {
    what: `verify --full of ${what}, faster than sha256sum`,
    got: plain.wallSeconds / agent.wallSeconds,
    wanted: 1.5,
    kind: 'least',
    unit: 'times',
  };
}

/** Writes the manifest over what lies in a directory. */
async function sealAt(directory: string, set: BenchSet, payload: BundlePayload): Promise<void> {
  await using pool = createArchivePool({ size: 2, log: () => undefined });
  const entries = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const files = await Promise.all(
    entries.map(async (entry) => {
      const path = join(entry.parentPath, entry.name);
      return { path: path.slice(directory.length + 1), ...(await pool.hash({ path })) };
    }),
  );
  const images = set.images.map((image) => ({
    reference: image.reference,
    names: [image.reference],
    manifestDigest: image.digest,
    compressedBytes: 0,
    unpackedBytes: 0,
  }));
  const text = formatBundle({
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: 'bench',
    architecture: 'amd64',
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: { name: 'bench', version: '0' },
    stages: { installed: { images } },
    payloads: [payload],
    files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
  });
  await writeFile(join(directory, BUNDLE_FILE), text);
}

async function measured(argv: readonly string[], work: string): Promise<Measurement> {
  const found = await measure({ argv, work });
  if (found.exitCode === 0) return found;
  throw new Error(`${argv.join(' ')} ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
}
