import { archiveFault } from '../extract/archive-faults.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { Digest } from '../model/digest.ts';
import { type ArchiveDamage, archiveDamage } from './archive-damage.ts';
import type { OcMirrorSet } from './archive-sets.ts';
import { createQueue, type Queue } from './queue.ts';
import { type Batch, isDamage, readOcMirrorArchive, type SetReading } from './read-archive.ts';

export interface FillRequest {
  /** Root of the registry's tree. */
  readonly to: string;
  readonly pool: ArchivePool;
  /** Number of batches given to the threads at one time. */
  readonly parallel: number;
  /** Whether existing blobs of the tree are trusted. */
  readonly keeps: boolean;
  readonly signal: AbortSignal;
  /** Called with the number of bytes read so far. */
  readonly onRead: (bytes: number) => void;
}

/** Content that the archives brought into the tree. */
export interface FilledSets {
  /** Sizes of the blobs now in the tree, in bytes, by digest. */
  readonly blobs: ReadonlyMap<Digest, number>;
  readonly writtenBytes: number;
  /** Damage found in the archives. */
  readonly faults: readonly ArchiveDamage[];
  readonly resources: OcMirrorTexts;
}

/** Texts of oc-mirror about sources, in the order of its runs; `isc` are the configurations of its runs. */
export interface OcMirrorTexts {
  readonly idms: readonly string[];
  readonly itms: readonly string[];
  readonly isc: readonly string[];
}

/**
 * Reads the archives and lets the threads fill the tree. Sets are processed one after the other, because a later one may move tags.
 * @throws PrestageError for refused members, ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE; by then no thread writes any more
 */
export async function fillFromSets(sets: readonly OcMirrorSet[], request: FillRequest): Promise<FilledSets> {
  const filling: Filling = { ...request, blobs: new Map(), faults: [], counts: { writtenBytes: 0, readBytes: 0 } };
  const texts: SetReading['texts'][] = [];
  for (const set of sets) {
    const reading: SetReading = { tags: new Map(), texts: new Map() };
    const queue = createQueue(request.parallel);
    try {
      for (const { path } of set.archives) await fillFromArchive(path, reading, queue, filling);
      await queue.drained();
    } finally {
      await queue.settled();
    }
    texts.push(reading.texts);
  }
  const textsOf = (kind: keyof OcMirrorTexts) =>
    texts.flatMap((set) => [...set.values()].filter((one) => one.kind === kind).map((one) => one.text));
  return {
    blobs: filling.blobs,
    faults: filling.faults,
    writtenBytes: filling.counts.writtenBytes,
    resources: { idms: textsOf('idms'), itms: textsOf('itms'), isc: textsOf('isc') },
  };
}

interface Filling extends FillRequest {
  readonly blobs: Map<Digest, number>;
  readonly faults: ArchiveDamage[];
  readonly counts: { writtenBytes: number; readBytes: number };
}

async function fillFromArchive(path: string, reading: SetReading, queue: Queue, filling: Filling): Promise<void> {
  const noting = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      filling.faults.push(archiveDamage(path, error));
    }
  };
  await noting(async () => {
    for await (const batch of readOcMirrorArchive(path, reading)) {
      filling.signal.throwIfAborted();
      await queue.push(async () => await noting(async () => await fillBatch(path, batch, filling)));
    }
  });
}

async function fillBatch(path: string, { blobs, links }: Batch, filling: Filling): Promise<void> {
  const { pool, to, keeps, signal, counts, onRead } = filling;
  const filled = await pool.fill({ path, to, blobs, links, keeps }, { signal });
  const damaged = new Set(filled.damaged.map((one) => one.digest));
  for (const { digest, sizeBytes } of blobs) if (!damaged.has(digest)) filling.blobs.set(digest, sizeBytes);
  for (const { digest, reason } of filled.damaged) {
    filling.faults.push(archiveDamage(path, archiveFault('ERR_ARCHIVE_DIGEST', path, `blob ${digest} ${reason}`)));
  }
  counts.writtenBytes += filled.writtenBytes;
  counts.readBytes += filled.readBytes;
  onRead(counts.readBytes);
}
