import { archiveFault } from '../extract/archive-faults.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { Digest } from '../model/digest.ts';
import { type ArchiveDamage, archiveDamage } from './archive-damage.ts';
import type { MirrorSet } from './archive-sets.ts';
import { createQueue, type Queue } from './queue.ts';
import { type Batch, isDamage, readMirrorArchive, type SetReading } from './read-archive.ts';

export interface FillRequest {
  /** Root of the registry's tree. */
  readonly to: string;
  readonly pool: ArchivePool;
  /** Batches that are with the threads at one time. */
  readonly parallel: number;
  /** Whether blobs that lie in the tree are believed. */
  readonly keeps: boolean;
  readonly signal: AbortSignal;
  /** Bytes that have been read. */
  readonly onRead: (bytes: number) => void;
}

/** What archives brought. */
export interface FilledSets {
  /** Sizes in bytes of the blobs that are in the tree now, by digest. */
  readonly blobs: ReadonlyMap<Digest, number>;
  readonly writtenBytes: number;
  /** Damage, by the archive that has it. */
  readonly faults: readonly ArchiveDamage[];
  readonly resources: MirrorTexts;
}

/** Texts of what oc-mirror says about sources, in the order of its runs; `isc` are the configurations that it was given. */
export interface MirrorTexts {
  readonly idms: readonly string[];
  readonly itms: readonly string[];
  readonly isc: readonly string[];
}

/**
 * Reads the archives and has the threads fill the tree. The sets go in one after the other, because a later one may lead tags elsewhere.
 * @throws PrestageError of what is refused, ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE; no thread writes any more then
 */
export async function fillFromSets(sets: readonly MirrorSet[], request: FillRequest): Promise<FilledSets> {
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
  const textsOf = (kind: keyof MirrorTexts) =>
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
  const noting = async (act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      if (!isDamage(error)) throw error;
      filling.faults.push(archiveDamage(path, error));
    }
  };
  await noting(async () => {
    for await (const batch of readMirrorArchive(path, reading)) {
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
