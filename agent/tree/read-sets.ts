import type { BlobPlace } from '../extract/fill-tree.ts';
import { type ArchiveDamage, absentArchives, archiveDamage } from './archive-damage.ts';
import type { OcMirrorSet } from './archive-sets.ts';
import { isDamage, readOcMirrorArchive, type SetReading } from './read-archive.ts';

/** A blob, and the archive that holds it. */
export interface ArchivedBlob extends BlobPlace {
  readonly path: string;
}

export interface ReadSets {
  readonly blobs: readonly ArchivedBlob[];
  /** Archives that are missing or cannot be read to their end. */
  readonly damage: readonly ArchiveDamage[];
}

/**
 * Reads the headers of all archives, to find whether each can be read to its end, and where the blobs are. The content of blobs is not read.
 * @throws PrestageError ERR_MIRROR_LAYOUT, ERR_MIRROR_LINK, ERR_ARCHIVE_* for a refused member; the signal's reason
 */
export async function readSets(sets: readonly OcMirrorSet[], signal: AbortSignal): Promise<ReadSets> {
  const blobs: ArchivedBlob[] = [];
  const damage: ArchiveDamage[] = [...absentArchives(sets)];
  for (const { archives } of sets) {
    const reading: SetReading = { tags: new Map(), texts: new Map() };
    for (const { path } of archives) {
      try {
        for await (const batch of readOcMirrorArchive(path, reading)) {
          signal.throwIfAborted();
          for (const blob of batch.blobs) blobs.push({ ...blob, path });
        }
      } catch (error) {
        if (!isDamage(error)) throw error;
        damage.push(archiveDamage(path, error));
      }
    }
  }
  return { blobs, damage };
}
