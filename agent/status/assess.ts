import type { StorageContents } from '../extract/storage.ts';
import { type ErrorRecord, exitCodeOf, exitCodes } from '../model/errors.ts';
import { countStates, type ImageState, isInStorage, isUsable, outcomeOf, type RunState } from '../model/run-state.ts';
import { isPresent } from '../reconcile/plan.ts';

export const STATUS_VERSION = 'prestage-agent/v1';

/** What stands behind the one word of the status. `degraded`: engines work, but not everything that the run should have set up. */
export type Readiness = 'never-run' | 'running' | 'interrupted' | 'ready' | 'degraded' | 'partial' | 'failed' | 'released';

/** Storage as it is now, or why it cannot be seen. */
export type StorageView =
  | { readonly kind: 'seen'; readonly contents: StorageContents }
  | { readonly kind: 'unknown'; readonly reason: string };

export interface StatusFacts {
  readonly state: RunState | undefined;
  /** There is a record of a run, and it cannot be believed. */
  readonly isDamaged: boolean;
  /** The process of the run is there. */
  readonly isAlive: boolean;
  readonly isSameBoot: boolean;
  readonly storage: StorageView;
  /** Whether the registry that the run left answers now; undefined where it left none. */
  readonly registry: { readonly healthy: boolean; readonly reason: string } | undefined;
  /** What the store that the run left open is known to be now; undefined where it left none, or none is open. */
  readonly verified: NonNullable<RunState['store']>['verified'] | undefined;
}

/** The versioned answer of `status`; docs/status.schema.json describes it. Sizes are bytes, durations milliseconds. */
export interface StatusReport {
  readonly apiVersion: typeof STATUS_VERSION;
  readonly kind: 'Status';
  readonly status: {
    readonly readiness: Readiness;
    /** One sentence: why it is so. */
    readonly reason: string;
    /** What the operator does next. */
    readonly nextStep: string;
    readonly exitCode: number;
    /** Whether storage was looked at for this answer; without root it may not be readable. */
    readonly storageChecked: boolean;
    readonly counts: ReturnType<typeof countStates>;
    readonly run?: Omit<RunState, 'apiVersion' | 'kind' | 'images' | 'unsynced' | 'suspect'>;
    readonly images: readonly ImageState[];
    readonly lastError?: ErrorRecord;
  };
}

/** What the status is. Pure: the same facts give the same answer. */
export function assessRun(facts: StatusFacts): StatusReport {
  const { state } = facts;
  if (state === undefined) {
    return report(
      {
        readiness: 'never-run',
        reason: facts.isDamaged ? 'the record of the last run is damaged' : 'no run has left a record on this machine',
        nextStep: 'Start one: prestage-agent run --stage discovery, or look at the unit: systemctl status "prestage-agent*"',
        exitCode: exitCodes.unfinished,
      },
      [],
      facts,
    );
  }
  const images = state.images.map((image) => asOfNow(image, facts));
  return report({ ...judge(state, images, facts) }, images, facts);
}

type Verdict = Pick<StatusReport['status'], 'readiness' | 'reason' | 'nextStep' | 'exitCode'>;

function judge(state: RunState, images: readonly ImageState[], facts: StatusFacts): Verdict {
  if (state.outcome === undefined && facts.isAlive) {
    return {
      readiness: 'running',
      reason: `the run of process ${state.pid} goes on (${state.phase})`,
      nextStep: 'Wait for it: prestage-agent status --watch',
      exitCode: exitCodes.unfinished,
    };
  }
  if (state.releasedAt !== undefined) {
    return {
      readiness: 'released',
      reason: `what was set up here was taken back at ${state.releasedAt}`,
      nextStep: `Nothing to do; to set it up again: prestage-agent run --stage ${state.stage}`,
      exitCode: exitCodes.unfinished,
    };
  }
  if (state.outcome === undefined || state.outcome === 'interrupted') return interrupted(state, facts);
  const outcome = state.error !== undefined && images.length === 0 ? 'failed' : outcomeOf(images);
  const lacking = images.filter((image) => !isUsable(image));
  const degraded = degradation(state, outcome, facts);
  if (degraded !== undefined) return { readiness: 'degraded', ...degraded };
  if (state.error !== undefined && outcome !== 'partial') {
    return { readiness: 'failed', reason: state.error.message, nextStep: state.error.remedy, exitCode: exitCodeOf(state.error.code) };
  }
  if (outcome === 'complete') return { readiness: 'ready', reason: readyReason(images), nextStep: 'Nothing to do', exitCode: 0 };
  const [first] = lacking;
  const why = lacking
    .slice(0, 1)
    .map((image) => `; first: ${image.reference}: ${image.reason ?? image.state}`)
    .join('');
  return {
    readiness: outcome,
    reason: `${images.length - lacking.length} of ${images.length} images can be used${why}`,
    nextStep: first?.error?.remedy ?? `Load what is missing: prestage-agent run --stage ${state.stage}`,
    exitCode: outcome === 'partial' ? exitCodes.partial : exitCodes.failed,
  };
}

/** What keeps a node that has its images, or was healed, from being ready. */
function degradation(state: RunState, outcome: RunState['outcome'], { registry }: StatusFacts): Omit<Verdict, 'readiness'> | undefined {
  const { error, healed } = state;
  // A partition that is missed, or not given back, is a failure, unless what it brought goes on without it.
  const goesOn =
    state.store !== undefined || state.registry !== undefined || exitCodeOf(error?.code ?? 'ERR_INTERNAL') !== exitCodes.partition;
  if (error !== undefined && (healed !== undefined || (outcome === 'complete' && goesOn))) {
    const done = healed === undefined || healed.length === 0 ? '' : `; so that engines work: ${healed.join(', ')}`;
    return { reason: `${error.message}${done}`, nextStep: error.remedy, exitCode: exitCodeOf(error.code) };
  }
  if (registry === undefined || registry.healthy || outcome !== 'complete') return undefined;
  return {
    reason: `the registry at ${state.registry?.address} does not answer: ${registry.reason}`,
    nextStep: `Start it again: prestage-agent run --stage ${state.stage}`,
    exitCode: exitCodes.partial,
  };
}

function readyReason(images: readonly ImageState[]): string {
  const served = images.filter((image) => image.state === 'served').length;
  if (served === 0) return `all ${images.length} images are in storage`;
  return served === images.length ? `all ${images.length} images are served` : `all ${images.length} images are in storage or served`;
}

function interrupted(state: RunState, facts: StatusFacts): Verdict {
  const how =
    state.outcome === 'interrupted'
      ? 'was asked to end'
      : facts.isSameBoot
        ? `ended without a word (process ${state.pid} is gone)`
        : 'was cut off by a reboot or a power cut';
  return {
    readiness: 'interrupted',
    reason: `the run that began at ${state.startedAt} ${how} (${state.phase})`,
    nextStep: `Start it again, it goes on from there: prestage-agent run --stage ${state.stage}`,
    exitCode: exitCodes.interrupted,
  };
}

/** An image that the run left in storage, or served, and that is not there now is missing. */
function asOfNow(image: ImageState, facts: StatusFacts): ImageState {
  if (image.state === 'served' && facts.registry?.healthy === false)
    return { ...image, state: 'missing', reason: `the registry that serves it does not answer: ${facts.registry.reason}` };
  if (facts.storage.kind === 'unknown' || !isInStorage(image) || isPresent(image, facts.storage.contents)) return image;
  const damage = facts.storage.contents.images
    .filter((stored) => stored.names.some((name) => image.names.includes(name)))
    .flatMap((stored) => stored.damage)[0];
  return {
    ...image,
    state: 'missing',
    reason: damage === undefined ? 'it has vanished from storage since the run' : `it is damaged: ${damage}`,
  };
}

function report(verdict: Verdict, images: readonly ImageState[], facts: StatusFacts): StatusReport {
  const lastError = facts.state?.error ?? images.find((image) => image.error !== undefined)?.error;
  const run = facts.state === undefined ? undefined : withoutLists(facts.state, facts.verified);
  return {
    apiVersion: STATUS_VERSION,
    kind: 'Status',
    status: {
      ...verdict,
      storageChecked: facts.storage.kind === 'seen',
      counts: countStates(images),
      ...(run && { run }),
      images,
      ...(lastError !== undefined && { lastError }),
    },
  };
}

function withoutLists(
  state: RunState,
  verified: StatusFacts['verified'],
): Omit<RunState, 'apiVersion' | 'kind' | 'images' | 'unsynced' | 'suspect'> {
  const { apiVersion: _version, kind: _kind, images: _images, unsynced: _unsynced, suspect: _suspect, store, ...rest } = state;
  return { ...rest, ...(store && { store: { ...store, verified: verified ?? store.verified } }) };
}
