import * as v from 'valibot';
import { type ArchivePool, createArchivePool } from '../extract/pool.ts';
import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { createWriteBack } from '../host/write-back.ts';
import type { Digest } from '../model/digest.ts';
import { digestSchema, errorRecordSchema } from '../model/schemas.ts';
import { type ArchiveDamage, absentArchives } from './archive-damage.ts';
import { describeArchives, type OcMirrorArchive, type OcMirrorSet, setsOf } from './archive-sets.ts';
import { fillFromSets, type OcMirrorTexts } from './fill-sets.ts';
import { findOthers, hideImages, type MissingBlob, missingBlobs, readTreeFacts, servedName } from './tree-check.ts';
import { treeImages } from './tree-images.ts';
import { endTree, requireRoom, startTree } from './tree-session.ts';

export interface UnpackOcMirrorRequest {
  /** Paths of the archives. The archives of one oc-mirror run are in one folder; folders come in the order in which they build on each other. */
  readonly archives: readonly string[];
  /** Root of the tree, which must belong to the agent alone. It is created. */
  readonly to: string;
  readonly act: Act;
  readonly signal: AbortSignal;
  /** If left out, threads are started, one for each core. */
  readonly pool?: ArchivePool;
  /** Called with the bytes of the archives read and hashed so far, and with their total. */
  readonly onProgress?: (bytes: number, ofBytes: number) => void;
}

/** A blob that an image needs but the tree lacks. */
export interface MissingPart extends MissingBlob {
  /** The archive that may hold it, for people. */
  readonly from: string;
}

export interface UnpackedOcMirror {
  /** Blobs in the tree. */
  readonly blobs: number;
  /** Total size of these blobs. */
  readonly bytes: number;
  /** Bytes written by this call; 0 if the tree was already complete. */
  readonly writtenBytes: number;
  /** Repositories that serve an image. */
  readonly repositories: number;
  /** Number of complete images and manifest lists. */
  readonly images: number;
  /** Manifests that are not images for Linux. They are served as they are. */
  readonly others: readonly Digest[];
  /** Blobs missing from the other images. Those are not served, so that engines try the next mirror or the source. */
  readonly missing: readonly MissingPart[];
  /** Damage of archives because of which blobs are missing. */
  readonly faults: readonly ArchiveDamage[];
  readonly resources: OcMirrorTexts;
}

/**
 * Unpacks archives of oc-mirror v2 into the tree of a registry. oc-mirror itself verifies nothing; here every blob is compared with its digest
 * before it gets its name. After an interruption complete blobs are kept. If archives are damaged, truncated or missing, the images that need them
 * are lost. An archive that oc-mirror cannot have written stops the work.
 *
 * If the tree is already complete for these archives (same paths, sizes and times), it is not read again.
 * Source: openshift/oc-mirror, internal/pkg/archive; distribution, registry/storage/paths.go.
 * @throws PrestageError ERR_MIRROR, ERR_MIRROR_LAYOUT, ERR_MIRROR_LINK, ERR_ARCHIVE_* for a refused member, ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE
 */
export async function unpackOcMirror(host: Host, request: UnpackOcMirrorRequest): Promise<UnpackedOcMirror> {
  const { to, act, signal, onProgress } = request;
  const archives = await describeArchives(request.archives);
  const session = { to, act, key: keyOf(archives) };
  const started = await startTree(session);
  if (started.kind === 'done') {
    const recorded = v.safeParse(resultSchema, started.result);
    if (recorded.success) return { ...recorded.output, writtenBytes: 0 };
  }
  const ofBytes = archives.reduce((total, archive) => total + archive.sizeBytes, 0);
  await requireRoom(to, ofBytes);
  await using pool = borrowPool(request.pool) ?? createArchivePool({ size: host.cores, log: host.log });
  await using writeBack = createWriteBack(host, to);
  const sets = setsOf(archives);
  const filling = {
    to,
    pool,
    signal,
    keeps: started.kind === 'fill' && started.keeps,
    parallel: BATCHES_PER_CORE * host.cores,
    onRead: (bytes: number): void => {
      writeBack.wrote(bytes);
      onProgress?.(bytes, ofBytes);
    },
  };
  const { filled, checked } = await act('fill-tree', async () => {
    const brought = await fillFromSets(sets, filling);
    return { filled: brought, checked: await hideIncomplete(host, to, whereToLook(sets, brought.faults)) };
  });
  const { resources, faults, writtenBytes } = filled;
  const bytes = [...filled.blobs.values()].reduce((total, size) => total + size, 0);
  const result = { blobs: filled.blobs.size, bytes, ...checked, faults, resources };
  // A read error may vanish with the next start, so the result is not final. Wrong bytes stay wrong.
  const isFinal = faults.every((fault) => fault.code !== 'ERR_ARCHIVE_READ');
  if (isFinal) await endTree(host, session, { blobs: new Set(filled.blobs.keys()), result });
  return { ...result, writtenBytes };
}

/** Batches given to the threads, for each core: one is processed while the next one waits. */
const BATCHES_PER_CORE = 2;

const texts = v.array(v.string());
const resultSchema = v.object({
  blobs: v.number(),
  bytes: v.number(),
  repositories: v.number(),
  images: v.number(),
  /** Missing in records of earlier agents, which counted them as images. */
  others: v.optional(v.array(digestSchema), []),
  missing: v.array(
    v.object({
      image: v.string(),
      digest: digestSchema,
      part: v.picklist(['manifest', 'config', 'layer']),
      from: v.string(),
    }),
  ),
  faults: v.array(v.intersect([v.object({ path: v.string() }), errorRecordSchema])),
  resources: v.object({ idms: texts, itms: texts, isc: texts }),
});

/** Identifies the state of all archives: a changed archive has another size or time. */
function keyOf(archives: readonly OcMirrorArchive[]): string {
  return JSON.stringify(archives.map(({ path, sizeBytes, modifiedMs }) => [path, sizeBytes, modifiedMs]));
}

/** Removes incomplete images from the tree, and reports what they lack. */
async function hideIncomplete(
  host: Host,
  to: string,
  from: string,
): Promise<Pick<UnpackedOcMirror, 'repositories' | 'images' | 'others' | 'missing'>> {
  const all = await treeImages(to);
  const facts = await readTreeFacts(to, all);
  const others = await findOthers(to, facts);
  const served = all.filter(({ digest }) => !others.has(digest));
  const missing = missingBlobs(served, facts, host.architecture);
  const names = new Set(missing.map((one) => one.image));
  const [incomplete, whole] = [
    served.filter((image) => names.has(servedName(image))),
    served.filter((image) => !names.has(servedName(image))),
  ];
  await hideImages(to, incomplete);
  return {
    repositories: new Set(whole.map((image) => image.repository)).size,
    images: whole.length,
    others: [...others],
    missing: missing.map((one) => ({ ...one, from })),
  };
}

/** Where missing blobs may be: in missing or damaged archives, else in the archives of a missing run. */
function whereToLook(sets: readonly OcMirrorSet[], faults: readonly ArchiveDamage[]): string {
  const gaps = absentArchives(sets).map((fault) => fault.path);
  const damaged = [...new Set(faults.map((fault) => fault.path))];
  const places = [...gaps.map((path) => `${path}, which is missing`), ...damaged.map((path) => `${path}, which is damaged`)];
  return places.length === 0 ? 'an archive of another oc-mirror run, or one with a higher number' : places.join(' or ');
}

/** A pool of the caller: disposing does not end it. */
function borrowPool(pool: ArchivePool | undefined): ArchivePool | undefined {
  return pool === undefined ? undefined : { ...pool, [Symbol.asyncDispose]: async () => undefined };
}
