import pLimit from 'p-limit';
import type { Host } from '../../host/host.ts';
import { withRetries } from '../../host/retry.ts';
import type { Digest } from '../../model/digest.ts';
import { type ErrorRecord, errorRecord, errorTable, PrestageError } from '../../model/errors.ts';
import { notImage, notImageError, parsePlatform } from '../../model/manifest-content.ts';
import { isTransient } from '../shared/failures.ts';
import type { PullSource } from '../web/source.ts';
import type { PulledAttached } from './attached-fetch.ts';
import type { AttachedFinder } from './attached-finder.ts';
import type { AttachmentFinder } from './attachments.ts';
import type { LookasideFinder } from './lookaside-finder.ts';
import { type PullStep, startOrder } from './plan.ts';
import type { OnPullEvent, PullResult } from './progress.ts';
import type { Receiver } from './receiver.ts';
import type { ResolvedImage } from './resolve.ts';
import { isUnsigned } from './signed.ts';
import type { PullTarget } from './target.ts';
import { isWhole, transferImage } from './transfer.ts';

export interface ExecuteContext {
  readonly host: Host;
  readonly source: PullSource;
  readonly target: PullTarget;
  /** Undefined if signatures are not asked for. */
  readonly attachments: AttachmentFinder | undefined;
  readonly lookaside: LookasideFinder | undefined;
  /** Undefined if attachments are not asked for. */
  readonly attached: AttachedFinder | undefined;
  /** An image without a signature fails. */
  readonly requiresSignatures: boolean;
  readonly receiver: Receiver;
  readonly parallel: number;
  readonly retries: number;
  readonly stallMs: number;
  /** Stops running transfers. */
  readonly stop: AbortSignal;
  readonly onEvent: OnPullEvent;
}

/** The result of one step. */
export interface StepResult {
  readonly step: PullStep;
  readonly result: PullResult;
  /** Manifests of the image that have sigstore signatures; undefined if none were asked for. */
  readonly signed?: readonly Digest[];
  /** Manifests of the image that have GPG signatures; undefined if none has. */
  readonly gpgSigned?: readonly Digest[];
  /** Undefined if none were asked for. */
  readonly attached?: readonly PulledAttached[];
  readonly error?: ErrorRecord;
}

/**
 * Fetches and delivers images, several at a time. A failed image does not stop the others, unless the folder itself cannot be written: then
 * no further image is started.
 */
export async function executePull(steps: readonly PullStep[], context: ExecuteContext): Promise<readonly StepResult[]> {
  const limit = pLimit(context.parallel);
  const broken = new AbortController();
  const stop = AbortSignal.any([context.stop, broken.signal]);
  const perform = async (step: PullStep): Promise<StepResult> => {
    const { reference } = step.image;
    if (stop.aborted) return finishStep(context, { step, result: 'skipped', error: errorRecord(reasonOf(context.stop, broken.signal)) });
    context.onEvent({ kind: 'image-started', reference });
    try {
      const wasWhole = isWhole(step.image, context.target.store);
      await withRetries(retryOptions(step, context, stop), async () => await transfer(step, context, stop));
      await refuseOtherSystems(step.image, context.target);
      const beside = { ...retryOptions(step, context, stop), isRetryable: isPassingBesideImage };
      const attachments = await withRetries(beside, async () => (await context.attachments?.find(step.image)) ?? []);
      const lookaside = await withRetries(retryOptions(step, context, stop), async () => (await context.lookaside?.find(step.image)) ?? []);
      const attached = (await withRetries(beside, async () => (await context.attached?.find(step.image)) ?? [])).flat();
      const signed = attachments.flatMap(({ subject, signatures }) => (signatures > 0 ? [subject] : []));
      const gpgSigned = lookaside.map(({ subject }) => subject);
      if (context.requiresSignatures) requireSignatures(step.image, [...signed, ...gpgSigned]);
      await context.target.deliver(step.image, { attachments, lookaside, attached });
      const result = wasWhole && step.kind === 'keep' ? 'kept' : 'pulled';
      return finishStep(context, {
        step,
        result,
        ...(context.attachments && { signed }),
        ...(gpgSigned.length > 0 && { gpgSigned }),
        ...(context.attached && { attached: attached.flatMap((tag) => tag.attached) }),
      });
    } catch (thrown) {
      if (stop.aborted) return finishStep(context, { step, result: 'skipped', error: errorRecord(reasonOf(context.stop, broken.signal)) });
      if (thrown instanceof PrestageError && isOfTarget(thrown)) broken.abort(thrown);
      return finishStep(context, { step, result: 'failed', error: errorRecord(thrown) });
    }
  };
  return await Promise.all(startOrder(steps).map((step) => limit(perform, step)));
}

/** The registry has just served the image itself to the same login, so a refusal of its signatures or attachments may be temporary. */
function isPassingBesideImage(error: unknown): boolean {
  return isTransient(error) || (error instanceof PrestageError && ['ERR_PULL_LOGIN', 'ERR_PULL_DENIED'].includes(error.code));
}

/** Engines verify the image of their platform, not the list that names it. */
function requireSignatures({ listed, manifests }: ResolvedImage, signed: readonly Digest[]): void {
  const lacking = manifests.filter(isUnsigned(signed)).map(({ digest }) => digest);
  if (lacking.length === 0) return;
  throw new PrestageError(
    'ERR_PULL_UNSIGNED',
    `${listed.text}: the registry has no signature of ${lacking.join(', ')}`,
    'Pull from a source that has the signatures, or give --signatures auto',
  );
}

/**
 * Only the config of a single image states that it is for Windows. Asking for it beforehand would take one more request for each image of each
 * list.
 */
async function refuseOtherSystems({ listed, manifests }: ResolvedImage, { store }: PullTarget): Promise<void> {
  const images = manifests.flatMap(({ manifest }) => (manifest.kind === 'image' ? [manifest] : []));
  const others = await Promise.all(
    images.map(async (manifest) =>
      notImage(manifest, parsePlatform((await store.readSmall(manifest.config.digest)) ?? Buffer.alloc(0)).os),
    ),
  );
  const [what] = others;
  if (what !== undefined && others.every((one) => one !== undefined)) throw notImageError(listed.text, what);
}

async function transfer(step: PullStep, context: ExecuteContext, stop: AbortSignal): Promise<void> {
  const { host, source, receiver, target, stallMs, onEvent } = context;
  const onBytes = (bytes: number): void => onEvent({ kind: 'bytes', bytes });
  await transferImage(step.image, {
    exec: host.exec,
    clock: host.clock,
    source,
    receiver,
    store: target.store,
    signal: stop,
    stallMs,
    onBytes,
  });
}

function retryOptions(step: PullStep, { host, retries, onEvent }: ExecuteContext, signal: AbortSignal) {
  return {
    clock: host.clock,
    retries,
    isRetryable: isTransient,
    signal,
    onRetry: (error: unknown, pauseMs: number) =>
      onEvent({ kind: 'image-retried', reference: step.image.reference, error: errorRecord(error), pauseMs }),
  };
}

/** A full or broken disk: every other image would fail, too. */
function isOfTarget(error: PrestageError): boolean {
  return error.code === 'ERR_PULL_WRITE' || errorTable[error.code].exit === 'space';
}

function reasonOf(stop: AbortSignal, broken: AbortSignal): unknown {
  return stop.aborted ? new PrestageError('ERR_INTERRUPTED', 'the pull was interrupted', 'Pull again to continue') : broken.reason;
}

function finishStep({ onEvent }: ExecuteContext, result: StepResult): StepResult {
  const { step, result: what, error } = result;
  onEvent({ kind: 'image-finished', reference: step.image.reference, result: what, ...(error && { error }) });
  return result;
}
