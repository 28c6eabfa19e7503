import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchivePool } from '../../extract/pool.ts';
import type { Act } from '../../host/acts.ts';
import { removeTree } from '../../host/remove-tree.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import { targetError } from '../shared/blob-store.ts';
import type { ResolvedImage } from './resolve.ts';
import type { PullTarget } from './target.ts';
import { writeArchive } from './write-archive.ts';
import { type KeptLists, writeLists } from './write-lists.ts';

export interface ArchivesTargetOptions extends KeptLists {
  /** Directory on the same file system for unfinished archives. */
  readonly scratch: string;
  /** Holds blobs until the last archive that needs them is written. */
  readonly store: BlobStore;
  readonly pool: ArchivePool;
  readonly act: Act;
  readonly signal: AbortSignal;
}

/**
 * Writes the folder of the prototype: one archive per image and the lists. An archive gets its name when it is complete; the lists are
 * written when all images have been tried.
 */
export function createArchivesTarget(options: ArchivesTargetOptions): PullTarget {
  const { directory, scratch, store, pool, act, signal } = options;
  const pathOf = ({ listed }: ResolvedImage): string => join(directory, `${listed.archiveName}.tgz`);
  // An image in several repositories has one archive.
  const written = new Map<string, Promise<void>>();
  return {
    store,
    isDelivered: async (image) => {
      const { archiveName } = image.listed;
      const to = await mkdtemp(join(scratch, 'check-'));
      // An archive with any fault is written again.
      const job = { path: pathOf(image), name: archiveName, architecture: architectureOf(image), writeBlobs: [], to };
      const found = await pool.unpack(job, { signal }).catch(() => undefined);
      await removeTree(to);
      return found?.topDigest === image.top.digest && found.blobs === image.blobs.length;
    },
    extraBytes: (steps) => steps.reduce((sum, act) => sum + act.sizeBytes, 0),
    attachmentOf: () => undefined,
    lookasideOf: () => undefined,
    deliver: async (image) => {
      const path = pathOf(image);
      const write = async (): Promise<void> => await writeArchive({ image, path, scratch, store, signal });
      const work = written.get(path) ?? act('write-archive', write);
      written.set(path, work);
      await work.catch((error: unknown) => {
        throw signal.aborted ? error : targetError(error);
      });
    },
    finish: async () => {
      await act('write-lists', async () => await writeLists(options));
    },
  };
}

/** One architecture of the image, so that its archive can be checked on any machine. */
function architectureOf({ top }: ResolvedImage): string {
  return (top.manifest.kind === 'index' ? top.manifest.instances[0]?.architecture : undefined) ?? '';
}
