import { relative } from 'node:path';
import pLimit from 'p-limit';
import { archiveFault } from '../extract/archive-faults.ts';
import type { Digest } from '../model/digest.ts';
import { type ArchiveDamage, archiveDamage } from '../tree/archive-damage.ts';
import type { OcMirrorFolder } from '../tree/archive-sets.ts';
import { type ArchivedBlob, readSets } from '../tree/read-sets.ts';
import { type Checked, faultOf, type VerifyContext } from './context.ts';

/** Total size of all archives of oc-mirror in a folder, in bytes. */
export function mirrorBytes({ sets }: OcMirrorFolder): number {
  return archivesOf({ sets }).reduce((total, archive) => total + archive.sizeBytes, 0);
}

/** All archives of a folder, in the order in which they build on each other. */
export function archivesOf({ sets }: Pick<OcMirrorFolder, 'sets'>): OcMirrorFolder['sets'][number]['archives'] {
  return sets.flatMap((set) => set.archives);
}

/**
 * Checks archives of oc-mirror: none is missing between others, and each can be read to its end; in mode `full` every blob matches its digest.
 * Which images they hold is known only after a run has unpacked all of them.
 */
export async function verifyMirror(directory: string, { sets }: OcMirrorFolder, context: VerifyContext): Promise<Checked> {
  try {
    const { blobs, damage } = await readSets(sets, context.signal);
    const isCut = new Set(damage.map(({ path }) => path));
    const wrong =
      context.mode === 'quick'
        ? []
        : (await blobDamage(blobs, context)).filter(({ path, code }) => code !== 'ERR_ARCHIVE_TRUNCATED' || !isCut.has(path));
    return { faults: [...damage, ...wrong].map((one) => ({ ...one, path: relative(directory, one.path) })), notices: [] };
  } catch (error) {
    context.signal.throwIfAborted();
    return { faults: [faultOf('.', error)], notices: [] };
  }
}

async function blobDamage(blobs: readonly ArchivedBlob[], context: VerifyContext): Promise<readonly ArchiveDamage[]> {
  const { pool, parallel, signal, onRead } = context;
  const limit = pLimit(parallel);
  let readBytes = 0;
  const found = await Promise.all(
    blobs.map((blob) =>
      limit(async () => {
        const { sha256, sizeBytes } = await pool.hash({ path: blob.path, part: blob }, { signal });
        readBytes += sizeBytes;
        onRead(readBytes);
        const actual: Digest = `sha256:${sha256}`;
        if (sizeBytes < blob.sizeBytes)
          return [archiveDamage(blob.path, archiveFault('ERR_ARCHIVE_TRUNCATED', blob.path, `the file ends within blob ${blob.digest}`))];
        if (actual === blob.digest) return [];
        return [archiveDamage(blob.path, archiveFault('ERR_ARCHIVE_DIGEST', blob.path, `blob ${blob.digest} has the digest ${actual}`))];
      }),
    ),
  );
  return found.flat();
}
