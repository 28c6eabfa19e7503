import { join } from 'node:path';
import { emptyDir, remove } from 'fs-extra/esm';
import type { ArchivedImage } from '../extract/archives.ts';
import type { Loader } from '../extract/load.ts';
import type { ArchivePool } from '../extract/pool.ts';
import { readImages, readLayers, type StorageLocation } from '../extract/storage.ts';
import type { Host } from '../host/host.ts';
import type { Step } from '../host/steps.ts';
import { type Digest, digestOf, hexOf } from '../model/digest.ts';
import { errorRecord, errorTable, PrestageError } from '../model/errors.ts';
import { isPresent, type LoadStep, promoteAfterFailure } from './plan.ts';
import type { OnRunEvent } from './progress.ts';

export interface ExecuteContext {
  readonly host: Host;
  readonly step: Step;
  readonly pool: ArchivePool;
  readonly loader: Loader;
  readonly location: StorageLocation;
  /** Empty directory for blobs on their way. */
  readonly scratch: string;
  /** Most bytes of blobs that lie in scratch at one time; one image always fits. */
  readonly scratchBytes: number;
  readonly parallel: number;
  readonly retries: number;
  readonly archives: ReadonlyMap<string, ArchivedImage>;
  /** No image is started once it has fired; those at work come to their end. */
  readonly stop: AbortSignal;
  readonly onEvent: OnRunEvent;
}

/** First pause before an image is tried again; it doubles each time. */
const RETRY_PAUSE_MS = 1000;
const RETRY_PAUSE_LIMIT_MS = 30_000;

/**
 * Loads images: leaders before those that wait for them, as many at a time as asked for and as scratch has room for. An image that fails
 * stops no other. What came of each is told by `image-finished` events.
 */
export async function executeLoads(loads: readonly LoadStep[], context: ExecuteContext): Promise<void> {
  let waiting = loads;
  const active = new Map<LoadStep, Promise<void>>();
  const unsettled = new Set(loads.map((step) => step.image.reference));
  const start = (step: LoadStep): void => {
    waiting = waiting.filter((other) => other !== step);
    const work = loadWithRetries(step, context).then((isLoaded) => {
      if (!isLoaded) waiting = promoteAfterFailure(waiting, step);
      unsettled.delete(step.image.reference);
      active.delete(step);
    });
    active.set(step, work);
  };
  while (waiting.length + active.size > 0) {
    for (let next = nextStep(waiting, active, unsettled, context); next !== undefined; next = nextStep(waiting, active, unsettled, context))
      start(next);
    if (active.size === 0) break;
    await Promise.race(active.values());
  }
  for (const { image } of waiting) {
    context.onEvent({
      kind: 'image-finished',
      reference: image.reference,
      result: 'skipped',
      bytes: image.archiveBytes,
      error: errorRecord(stopped()),
    });
  }
}

/** The first load in plan order that may start now. */
function nextStep(
  waiting: readonly LoadStep[],
  active: ReadonlyMap<LoadStep, unknown>,
  unsettled: ReadonlySet<string>,
  context: ExecuteContext,
): LoadStep | undefined {
  if (context.stop.aborted || active.size >= context.parallel) return undefined;
  const used = [...active.keys()].reduce((sum, step) => sum + step.writeBytes, 0);
  return waiting.find(
    (step) => step.after.every((leader) => !unsettled.has(leader)) && (active.size === 0 || used + step.writeBytes <= context.scratchBytes),
  );
}

async function loadWithRetries(step: LoadStep, context: ExecuteContext): Promise<boolean> {
  const { reference, archiveBytes } = step.image;
  for (let attempt = 1; ; attempt++) {
    context.onEvent({ kind: 'image-started', reference, bytes: archiveBytes, attempt });
    try {
      await loadOnce(step, context);
      context.onEvent({ kind: 'image-finished', reference, result: 'loaded', bytes: archiveBytes });
      return true;
    } catch (thrown) {
      const error = errorRecord(context.stop.aborted ? stopped() : thrown);
      if (context.stop.aborted || attempt > context.retries || !canBeRetried(thrown)) {
        context.onEvent({
          kind: 'image-finished',
          reference,
          result: context.stop.aborted ? 'skipped' : 'failed',
          bytes: archiveBytes,
          error,
        });
        return false;
      }
      const pauseMs = Math.min(RETRY_PAUSE_MS * 2 ** (attempt - 1), RETRY_PAUSE_LIMIT_MS);
      context.onEvent({ kind: 'image-retried', reference, error, pauseMs });
      await context.host.clock.sleep(pauseMs, context.stop).catch(() => undefined);
    }
  }
}

/** What an archive holds does not change by trying again; what a tool, the disk or memory said may. */
function canBeRetried(error: unknown): boolean {
  return !(error instanceof PrestageError) || errorTable[error.code].exit !== 'payload';
}

async function loadOnce(step: LoadStep, context: ExecuteContext): Promise<void> {
  const { image } = step;
  const archived = context.archives.get(image.reference);
  if (archived === undefined) throw new Error(`${image.reference} has no archive`);
  const directory = join(context.scratch, hexOf(digestOf(image.reference)));
  try {
    await context.step('unpack-image', async () => await unpack(step, archived, directory, context));
    context.onEvent({ kind: 'image-copying', reference: image.reference });
    for (const [index, name] of image.names.entries()) {
      await context.step(index === 0 ? 'load-image' : 'load-extra-name', async () => await context.loader.load(directory, name));
    }
    await assertPresent(step, context.location);
  } finally {
    await context.step('remove-image-scratch', async () => await remove(directory));
  }
}

async function unpack(step: LoadStep, archived: ArchivedImage, directory: string, context: ExecuteContext): Promise<void> {
  const { reference, layers } = step.image;
  const stored = await readLayers(context.location);
  const writeBlobs = (layers ?? []).map((layer) => layer.digest).filter((digest) => !stored.has(digest));
  await emptyDir(directory);
  const unpacked = await context.pool.unpack(
    {
      path: archived.archive.path,
      name: archived.archive.name,
      architecture: context.host.architecture,
      writeBlobs: [...new Set<Digest>(writeBlobs)],
      to: directory,
    },
    { signal: context.stop, onProgress: (bytesRead) => context.onEvent({ kind: 'image-read', reference, bytesRead }) },
  );
  if (step.image.digests.includes(unpacked.topDigest)) return;
  throw new PrestageError(
    'ERR_ARCHIVE_REFERENCE',
    `${archived.archive.path} now holds ${unpacked.topDigest}, it held ${step.image.digests.join(' or ')} when it was looked at`,
    'Find out who changes the partition, then start the run again',
  );
}

/** Trusts the storage's records, not the exit code. */
async function assertPresent(step: LoadStep, location: StorageLocation): Promise<void> {
  if (isPresent(step.image, { images: await readImages(location) })) return;
  throw new PrestageError(
    'ERR_LOAD',
    `skopeo ended well, but ${location.graphroot} does not list ${step.image.names.join(' and ')} with ${step.image.digests.join(' or ')}`,
    'Check that no other program removes images while they are loaded, then start the run again',
  );
}

function stopped(): PrestageError {
  return new PrestageError('ERR_INTERRUPTED', 'the run was asked to end', 'Start the run again: it goes on from here');
}
