import type { Act } from '../host/acts.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import type { GroupName, PlannedStep, UndoGroup, UndoPlan } from './plan.ts';

/** The result of a step. */
export type StepOutcome = {
  readonly group: GroupName;
  readonly text: string;
} & (
  | { readonly result: 'done' }
  | { readonly result: 'failed'; readonly error: ErrorRecord }
  /** Not tried, because a step that it needs has failed. */
  | { readonly result: 'skipped'; readonly reason: string }
  /** Something still needs it; a later release can undo it. */
  | { readonly result: 'left'; readonly reason: string }
);

/**
 * Runs a plan in its order. If a step fails, the others still run, except those that would do harm without it. After the signal no further step is
 * started.
 */
export async function executePlan(
  plan: UndoPlan,
  { act, signal }: { readonly act: Act; readonly signal: AbortSignal },
): Promise<readonly StepOutcome[]> {
  const broken = new Map<GroupName, string>();
  const outcomes: StepOutcome[] = [];
  for (const group of plan.groups) {
    for (const outcome of await runGroup(group, { act, signal, broken })) {
      outcomes.push(outcome);
      if (outcome.result === 'failed' || outcome.result === 'skipped') broken.set(group.name, broken.get(group.name) ?? outcome.text);
    }
  }
  return outcomes;
}

interface Running {
  readonly act: Act;
  readonly signal: AbortSignal;
  /** The first step of each group that was not done. */
  readonly broken: ReadonlyMap<GroupName, string>;
}

async function runGroup(group: UndoGroup, { act, signal, broken }: Running): Promise<readonly StepOutcome[]> {
  const needed = group.needs.map((name) => broken.get(name)).find((text) => text !== undefined);
  const outcomes: StepOutcome[] = [];
  let before = needed;
  for (const planned of group.steps) {
    const about = { group: group.name, text: planned.text };
    if (before !== undefined) {
      outcomes.push({ ...about, result: 'skipped', reason: `this must be done first: ${before}` });
      continue;
    }
    const outcome: StepOutcome = signal.aborted ? { ...about, result: 'failed', error: endedError() } : await runStep(planned, group, act);
    outcomes.push(outcome);
    if (group.isChain && outcome.result === 'failed') before = planned.text;
  }
  return outcomes;
}

function endedError(): ErrorRecord {
  return errorRecord(
    new PrestageError('ERR_INTERRUPTED', 'the release was interrupted before this', 'Run the command again; it continues where it stopped'),
  );
}

async function runStep(planned: PlannedStep, { name: group }: UndoGroup, act: Act): Promise<StepOutcome> {
  const about = { group, text: planned.text };
  try {
    const reason = await planned.whyLeft?.();
    if (reason !== undefined) return { ...about, result: 'left', reason };
    await act(planned.name, planned.run);
    return { ...about, result: 'done' };
  } catch (error) {
    return { ...about, result: 'failed', error: errorRecord(error) };
  }
}
