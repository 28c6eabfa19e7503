import pLimit from 'p-limit';
import { type RetryOptions, withRetries } from '../host/retry.ts';
import { errorRecord, errorTable, PrestageError } from '../model/errors.ts';
import { interruptedError } from './context.ts';
import { type LoadContext, loadImage } from './load-image.ts';
import { type LoadStep, promoteAfterFailure } from './plan.ts';

export interface ExecuteContext extends Omit<LoadContext, 'whenCopyable'> {
  /** Most bytes of blobs that lie in scratch at one time; one image always fits. */
  readonly scratchBytes: number;
  /** Images that are copied at one time; as many again are unpacked ahead. */
  readonly parallel: number;
  readonly retries: number;
}

/**
 * Loads images: leaders before the images that wait for them, and as many at a time as requested and as scratch has room for. A failed image
 * does not stop the others. `image-finished` events report the result of each.
 */
export async function executeLoads(loads: readonly LoadStep[], context: ExecuteContext): Promise<void> {
  const settled = new Map(loads.map((step) => [step.image.reference, Promise.withResolvers<void>()]));
  const place = pLimit(context.parallel);
  const whenCopyable: LoadContext['whenCopyable'] = async (step, copy) => {
    for (const leader of step.after) await settled.get(leader)?.promise;
    await place(async () => {
      context.stop.throwIfAborted();
      await copy();
    });
  };
  let waiting = loads;
  const active = new Map<LoadStep, Promise<void>>();
  const start = (step: LoadStep): void => {
    waiting = waiting.filter((other) => other !== step);
    const work = loadWithRetries(step, { ...context, whenCopyable }).then((isLoaded) => {
      if (!isLoaded) waiting = promoteAfterFailure(waiting, step);
      settled.get(step.image.reference)?.resolve();
      active.delete(step);
    });
    active.set(step, work);
  };
  while (waiting.length + active.size > 0) {
    for (
      let next = nextStep(waiting, [...active.keys()], context);
      next !== undefined;
      next = nextStep(waiting, [...active.keys()], context)
    )
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
      error: errorRecord(interruptedError()),
    });
  }
}

/**
 * The first load in plan order that may start now. The images that it waits for have started and hold their scratch already, so no image waits
 * for room that another waiting image holds.
 */
function nextStep(waiting: readonly LoadStep[], active: readonly LoadStep[], context: ExecuteContext): LoadStep | undefined {
  if (context.stop.aborted || active.length >= context.parallel * 2) return undefined;
  const used = active.reduce((sum, step) => sum + step.writeBytes, 0);
  const notStarted = new Set(waiting.map((step) => step.image.reference));
  const isFree = (step: LoadStep): boolean => step.after.every((leader) => !notStarted.has(leader));
  return waiting.find((step) => isFree(step) && (active.length === 0 || used + step.writeBytes <= context.scratchBytes));
}

async function loadWithRetries(step: LoadStep, context: LoadContext & Pick<ExecuteContext, 'retries'>): Promise<boolean> {
  const { reference, archiveBytes } = step.image;
  const options: RetryOptions = {
    clock: context.host.clock,
    retries: context.retries,
    signal: context.stop,
    isRetryable: canBeRetried,
    onRetry: (error, pauseMs) => context.onEvent({ kind: 'image-retried', reference, error: errorRecord(error), pauseMs }),
  };
  let attempts = 0;
  try {
    await withRetries(options, async () => {
      context.onEvent({ kind: 'image-started', reference, bytes: archiveBytes, attempt: ++attempts });
      // The storage may differ from what this run knows: another program may have removed a layer.
      if (attempts > 1) await context.stored.refresh();
      await loadImage(step, context);
    });
    context.onEvent({ kind: 'image-finished', reference, result: 'loaded', bytes: archiveBytes });
    return true;
  } catch (thrown) {
    const isStopped = context.stop.aborted;
    const error = errorRecord(isStopped ? interruptedError() : thrown);
    context.onEvent({ kind: 'image-finished', reference, result: isStopped ? 'skipped' : 'failed', bytes: archiveBytes, error });
    return false;
  }
}

/** Trying again does not change the content of an archive; it may help after an error of a tool, the disk or memory. */
function canBeRetried(error: unknown): boolean {
  return !(error instanceof PrestageError) || errorTable[error.code].exit !== 'payload';
}
