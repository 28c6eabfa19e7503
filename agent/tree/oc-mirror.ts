import * as v from 'valibot';
import { type ArchivePool, createArchivePool } from '../extract/pool.ts';
import type { Host } from '../host/host.ts';
import type { Step } from '../host/steps.ts';
import { createWriteBack } from '../host/write-back.ts';
import { type Digest, isDigest } from '../model/digest.ts';
import { type ErrorCode, isErrorCode } from '../model/errors.ts';
import { type ArchiveDamage, absentArchives } from './archive-damage.ts';
import { describeArchives, type MirrorArchive, type MirrorSet, setsOf } from './archive-sets.ts';
import { fillFromSets, type MirrorTexts } from './fill-sets.ts';
import { hideImages, type MissingBlob, missingBlobs, readTreeFacts, servedName } from './tree-check.ts';
import { treeImages } from './tree-images.ts';
import { endTree, requireRoom, startTree } from './tree-session.ts';

export interface UnpackMirrorRequest {
  /** Paths of the archives. Those of one run of oc-mirror lie in one folder; folders in the order in which they go on top of each other. */
  readonly archives: readonly string[];
  /** Root of the registry's tree, a directory of our own. It is made. */
  readonly to: string;
  readonly step: Step;
  readonly signal: AbortSignal;
  /** Where left out, threads are started, one for each core. */
  readonly pool?: ArchivePool;
  /** Bytes of archives that have been read and hashed, of all. */
  readonly onProgress?: (bytes: number, ofBytes: number) => void;
}

/** A blob that an image needs and that the tree does not have. */
export interface MissingPart extends MissingBlob {
  /** Which archive may hold it, in words. */
  readonly from: string;
}

export interface UnpackedMirror {
  /** Blobs in the tree. */
  readonly blobs: number;
  /** Of these blobs. */
  readonly bytes: number;
  /** What was written now: 0 where the tree was complete. */
  readonly writtenBytes: number;
  /** Repositories that serve an image. */
  readonly repositories: number;
  /** Manifests and lists that are whole. */
  readonly images: number;
  /** What the others lack. They are not served, so that an engine goes on to the next mirror or to the source. */
  readonly missing: readonly MissingPart[];
  /** Damage of archives, which left blobs out. */
  readonly faults: readonly ArchiveDamage[];
  readonly resources: MirrorTexts;
}

/**
 * Unpacks archives of oc-mirror v2 into the tree of a registry. oc-mirror verifies nothing of them; here every blob is held against its
 * digest before it gets its name. What is whole is kept over an end in between. Archives that are damaged, cut off or missing cost the
 * images that need them; one that does not have the form of oc-mirror's ends it all.
 *
 * A tree that is complete for these archives, by path, size and time, is not looked into again.
 * Source: openshift/oc-mirror, internal/pkg/archive; distribution, registry/storage/paths.go.
 * @throws PrestageError ERR_MIRROR, ERR_MIRROR_LAYOUT, ERR_MIRROR_LINK, ERR_ARCHIVE_* of a refused member, ERR_SPACE_REGISTRY, ERR_REGISTRY_WRITE
 */
export async function unpackOcMirror(host: Host, request: UnpackMirrorRequest): Promise<UnpackedMirror> {
  const { to, step, signal, onProgress } = request;
  const archives = await describeArchives(request.archives);
  const session = { to, step, key: keyOf(archives) };
  const started = await startTree(session);
  if (started.kind === 'done') {
    const recorded = v.safeParse(resultSchema, started.result);
    if (recorded.success) return { ...recorded.output, writtenBytes: 0 };
  }
  const ofBytes = archives.reduce((total, archive) => total + archive.sizeBytes, 0);
  await requireRoom(to, ofBytes);
  await using pool = borrowed(request.pool) ?? createArchivePool({ size: host.cores, log: host.log });
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
  const { filled, checked } = await step('fill-tree', async () => {
    const brought = await fillFromSets(sets, filling);
    return { filled: brought, checked: await hideIncomplete(host, to, whereToLook(sets, brought.faults)) };
  });
  const { resources, faults, writtenBytes } = filled;
  const bytes = [...filled.blobs.values()].reduce((total, size) => total + size, 0);
  const result = { blobs: filled.blobs.size, bytes, ...checked, faults, resources };
  // What a disk did not give may come at the next start; what has other bytes stays as it is.
  const isFinal = faults.every((fault) => fault.code !== 'ERR_ARCHIVE_READ');
  if (isFinal) await endTree(host, session, { blobs: new Set(filled.blobs.keys()), result });
  return { ...result, writtenBytes };
}

/** Batches that are with the threads, for each core: one is worked on while the next one waits. */
const BATCHES_PER_CORE = 2;

const texts = v.array(v.string());
const resultSchema = v.object({
  blobs: v.number(),
  bytes: v.number(),
  repositories: v.number(),
  images: v.number(),
  missing: v.array(
    v.object({
      image: v.string(),
      digest: v.custom<Digest>((value) => typeof value === 'string' && isDigest(value)),
      part: v.picklist(['manifest', 'config', 'layer']),
      from: v.string(),
    }),
  ),
  faults: v.array(v.object({ path: v.string(), code: v.custom<ErrorCode>(isErrorCode), message: v.string(), remedy: v.string() })),
  resources: v.object({ idms: texts, itms: texts, isc: texts }),
});

/** Names the state of all archives: a changed one has another size or time. */
function keyOf(archives: readonly MirrorArchive[]): string {
  return JSON.stringify(archives.map(({ path, sizeBytes, modifiedMs }) => [path, sizeBytes, modifiedMs]));
}

/** Takes what is not whole out of the tree, and says what it lacks. */
async function hideIncomplete(host: Host, to: string, from: string): Promise<Pick<UnpackedMirror, 'repositories' | 'images' | 'missing'>> {
  const served = await treeImages(to);
  const missing = missingBlobs(served, await readTreeFacts(to, served), host.architecture);
  const names = new Set(missing.map((one) => one.image));
  const [incomplete, whole] = [
    served.filter((image) => names.has(servedName(image))),
    served.filter((image) => !names.has(servedName(image))),
  ];
  await hideImages(to, incomplete);
  return {
    repositories: new Set(whole.map((image) => image.repository)).size,
    images: whole.length,
    missing: missing.map((one) => ({ ...one, from })),
  };
}

/** Where what is missing may be: in archives that are not there, or are damaged; else in those of a run that is not there at all. */
function whereToLook(sets: readonly MirrorSet[], faults: readonly ArchiveDamage[]): string {
  const gaps = absentArchives(sets).map((fault) => fault.path);
  const damaged = [...new Set(faults.map((fault) => fault.path))];
  const places = [...gaps.map((path) => `${path}, which is not there`), ...damaged.map((path) => `${path}, which is damaged`)];
  return places.length === 0 ? 'an archive of another run of oc-mirror, or one with a higher number' : places.join(' or ');
}

/** A pool that its owner ends. */
function borrowed(pool: ArchivePool | undefined): ArchivePool | undefined {
  return pool === undefined ? undefined : { ...pool, [Symbol.asyncDispose]: async () => undefined };
}
