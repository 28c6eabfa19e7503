import { exitCodeOf, exitCodes } from '../model/errors.ts';
import { type ImageState, isUsable, outcomeOf, type RunState } from '../model/run-state.ts';
import type { FileFault, StatusFacts } from './facts.ts';
import { storeFault } from './image-now.ts';
import { describeEnd } from './unit-end.ts';
import type { UnseenPart } from './unseen.ts';

/**
 * The status in one word. `degraded`: engines work, but something that the run should have set up does not.
 * `unknown`: no fault was found, but not everything that the run relies on could be checked.
 */
export type Readiness = 'never-run' | 'running' | 'interrupted' | 'ready' | 'unknown' | 'degraded' | 'partial' | 'failed' | 'released';

export interface Verdict {
  readonly readiness: Readiness;
  /** One sentence: why it is so. */
  readonly reason: string;
  /** What the operator does next. */
  readonly nextStep: string;
  readonly exitCode: number;
}

/** What is judged: the images as they are now, and what could not be checked. */
export interface Judged {
  readonly state: RunState;
  readonly images: readonly ImageState[];
  readonly unseen: readonly UnseenPart[];
  readonly facts: StatusFacts;
}

/** Decides the status of a machine that has the record of a run. Pure. */
export function judgeRun({ state, images, unseen, facts }: Judged): Verdict {
  if (state.outcome === undefined && facts.isAlive.kind === 'unseen') return unknown(unseen);
  if (state.outcome === undefined && facts.isAlive.kind === 'seen' && facts.isAlive.value) {
    return {
      readiness: 'running',
      reason: `a run is in progress (process ${state.pid}, phase ${state.phase})`,
      nextStep: 'Wait for it: prestage-agent status --watch',
      exitCode: exitCodes.unfinished,
    };
  }
  if (state.releasedAt !== undefined) {
    return {
      readiness: 'released',
      reason: `the setup of this machine was undone at ${state.releasedAt}`,
      nextStep: `Nothing to do; to set it up again: prestage-agent run --stage ${state.stage}`,
      exitCode: exitCodes.unfinished,
    };
  }
  if (state.outcome === undefined || state.outcome === 'interrupted') return judgeInterrupted(state, facts);
  const outcome = state.error !== undefined && images.length === 0 ? 'failed' : outcomeOf(images);
  const atEnd = crioSince(state, facts) ?? endOfRun(state, outcome);
  if (atEnd !== undefined) return atEnd;
  if (outcome !== 'complete') return lacking({ state, images, unseen, facts });
  const foreign = foreignArchitecture(state, facts);
  if (foreign !== undefined) return foreign;
  const [first, ...more] = faultsOf(state, facts);
  if (first !== undefined) {
    const reason = [first, ...more].map((fault) => fault.reason).join('; ');
    return { readiness: 'degraded', reason, nextStep: first.nextStep, exitCode: exitCodes.partial };
  }
  const refusal = facts.missingPolicy ?? state.withheld;
  if (refusal !== undefined) {
    const { message, remedy, code } = refusal;
    return { readiness: 'degraded', reason: message, nextStep: remedy, exitCode: exitCodeOf(code) };
  }
  if (unseen.length > 0) return unknown(unseen);
  return { readiness: 'ready', reason: readyReason(images), nextStep: 'Nothing to do', exitCode: 0 };
}

function unknown(unseen: readonly UnseenPart[]): Verdict {
  return {
    readiness: 'unknown',
    reason: `no fault was found, but not everything could be checked: ${listOf(unseen)}`,
    nextStep: [...new Set(unseen.map(({ remedy }) => remedy))].join('; '),
    exitCode: exitCodes.unknown,
  };
}

function listOf(unseen: readonly UnseenPart[]): string {
  return unseen.map(({ what, reason }) => `${what} (${reason})`).join(', ');
}

/** The run withheld its mirror because CRI-O did not know the store. CRI-O has been restarted since. */
function crioSince(state: RunState, { crio }: StatusFacts): Verdict | undefined {
  if (state.error?.code !== 'ERR_CRIO_STORE' || crio.kind === 'unseen' || crio.value === 'unaware') return undefined;
  return {
    readiness: 'degraded',
    reason: 'CRI-O was restarted and now knows the store, but the mirror for the store is not set up yet',
    nextStep: `Start the run again: ${runAgain(state)}`,
    exitCode: exitCodeOf(state.error.code),
  };
}

/** The verdict on a run that ended with an error: `degraded` if the node has its images or was healed, else `failed`. */
function endOfRun(state: RunState, outcome: RunState['outcome']): Verdict | undefined {
  const { error, healed } = state;
  if (error === undefined) return undefined;
  const verdict = { nextStep: error.remedy, exitCode: exitCodeOf(error.code) };
  // A partition that is missing, or that could not be released, is a failure, unless the store or registry works without it.
  const goesOn = state.store !== undefined || state.registry !== undefined || verdict.exitCode !== exitCodes.partition;
  if (healed !== undefined || (outcome === 'complete' && goesOn)) {
    const done = healed === undefined || healed.length === 0 ? '' : `; done so that engines work: ${healed.join(', ')}`;
    return { readiness: 'degraded', reason: `${error.message}${done}`, ...verdict };
  }
  return outcome === 'partial' ? undefined : { readiness: 'failed', reason: error.message, ...verdict };
}

function lacking({ state, images, unseen }: Judged): Verdict {
  const usable = images.filter(isUsable);
  const missing = images.filter((image) => !isUsable(image));
  const [first] = missing;
  const why = missing
    .slice(0, 1)
    .map((image) => `; first: ${image.reference}: ${image.reason ?? image.state}`)
    .join('');
  // The error of the run comes first, its consequence second.
  const cause = state.error === undefined ? '' : `${state.error.message}; `;
  const limit = usable.length > 0 && unseen.length > 0 ? `; not checked: ${listOf(unseen)}` : '';
  return {
    readiness: usable.length > 0 ? 'partial' : 'failed',
    reason: `${cause}${usable.length} of ${images.length} images are usable${why}${limit}`,
    nextStep: state.error?.remedy ?? first?.error?.remedy ?? `Load the missing images: ${runAgain(state)}`,
    exitCode: usable.length > 0 ? exitCodes.partial : exitCodes.failed,
  };
}

function foreignArchitecture({ architecture }: RunState, { architecture: own }: StatusFacts): Verdict | undefined {
  if (architecture === undefined || architecture === own) return undefined;
  return {
    readiness: 'failed',
    reason: `the bundle is for ${architecture}, but this machine is ${own}: its images do not run here`,
    nextStep: `Write a bundle for ${own} to the partition`,
    exitCode: exitCodes.payload,
  };
}

type Fault = Pick<Verdict, 'reason' | 'nextStep'>;

/** The faults because of which a node is not ready although it has its images. */
function faultsOf(state: RunState, facts: StatusFacts): readonly Fault[] {
  const { registries, files, crio, dangling } = facts;
  const store = storeFault(state, facts);
  const silent = registries.flatMap(({ address, answer }): readonly Fault[] => {
    if (answer.kind === 'unseen' || answer.value.healthy) return [];
    const who = address === state.registry?.address ? `the registry at ${address}` : `${address}, a mirror of ours in registries.conf,`;
    return [{ reason: `${who} does not answer: ${answer.value.reason}`, nextStep: `Start it again: ${runAgain(state)}` }];
  });
  const changed = (files.kind === 'unseen' ? [] : files.value).filter(({ about }) => isReliedOn(about, state));
  const isUnaware = state.store !== undefined && crio.kind === 'seen' && crio.value === 'unaware';
  return [
    ...(store === undefined ? [] : [{ reason: store.reason, nextStep: `Mount it again: ${runAgain(state)}` }]),
    ...(dangling.kind === 'unseen' || dangling.value.length === 0 ? [] : [danglingFault(state, dangling.value)]),
    ...silent,
    ...changed.map((file): Fault => ({ reason: fileFault(file), nextStep: `Write it again: ${runAgain(state)}` })),
    ...(isUnaware ? [UNAWARE] : []),
  ];
}

function danglingFault(state: RunState, dangling: readonly string[]): Fault {
  return {
    reason: `storage has records that need a store image that is gone, and engines fail on them: ${dangling.join(', ')}`,
    nextStep: `Remove them: ${runAgain(state)}`,
  };
}

const UNAWARE: Fault = {
  reason: 'CRI-O was started before the store was configured, and looks for stores only when it starts',
  nextStep: 'Restart CRI-O: systemctl restart crio',
};

function isReliedOn(about: FileFault['about'], { store, registry }: RunState): boolean {
  return (about === 'store' ? store : registry) !== undefined;
}

function fileFault({ path, fault, about }: FileFault): string {
  const purpose = about === 'store' ? 'points engines to the store' : 'points engines to the mirrors';
  if (fault === 'gone') return `${path}, which ${purpose}, is missing`;
  if (fault === 'changed') return `${path}, which ${purpose}, was changed after the agent wrote it`;
  return `${path} no longer ${purpose}`;
}

function readyReason(images: readonly ImageState[]): string {
  const served = images.filter((image) => image.state === 'served').length;
  if (served === 0) return `all ${images.length} images are in storage`;
  return served === images.length ? `all ${images.length} images are served` : `all ${images.length} images are in storage or served`;
}

function judgeInterrupted(state: RunState, facts: StatusFacts): Verdict {
  const unit = facts.units?.find(({ pid }) => pid === state.pid);
  const why = unit === undefined ? '' : `: ${describeEnd(unit.unit, unit.how)}`;
  const how =
    state.outcome === 'interrupted'
      ? 'was asked to stop'
      : facts.isSameBoot
        ? `ended unexpectedly (process ${state.pid} is gone${why})`
        : 'was interrupted by a reboot or a power cut';
  return {
    readiness: 'interrupted',
    reason: `the run that began at ${state.startedAt} ${how} (phase ${state.phase})`,
    nextStep: `Start it again; it continues from there: ${runAgain(state)}`,
    exitCode: exitCodes.interrupted,
  };
}

function runAgain({ stage }: RunState): string {
  return `prestage-agent run --stage ${stage}`;
}
