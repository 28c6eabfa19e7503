import type { Act } from '../host/acts.ts';
import { writeAtomic } from '../host/atomic.ts';
import { readBootId } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { takeRunLock } from '../host/run-lock.ts';
import { sealRecord } from '../model/seal.ts';
import { startCheck } from '../mount/start-check.ts';
import { DURABLE_STATE, LIVE_STATE, readState } from '../state/run-record.ts';
import { executePlan, type StepOutcome } from './execute.ts';
import { planUndo, type UndoLooks, type UndoPlan, type UndoRequest } from './plan.ts';

export interface UndoOptions extends UndoRequest {
  readonly isDry: boolean;
  readonly lockWaitSeconds: number;
  readonly act: Act;
  readonly signal: AbortSignal;
  /** Returns if the plan is confirmed; not called if there is nothing to do. */
  readonly confirm: (plan: UndoPlan) => Promise<void>;
  /** For tests; those of a node if left out. */
  readonly looks?: UndoLooks;
}

export interface UndoReport {
  readonly plan: UndoPlan;
  /** Empty for a dry run, and if there was nothing to undo. */
  readonly outcomes: readonly StepOutcome[];
}

/**
 * Undoes what the agent has set up on this node. The state of the last run is kept, and records that it was undone.
 * @throws PrestageError ERR_STORE_PODS before anything is undone; ERR_LOCKED, ERR_PLACE, ERR_NOT_CONFIRMED, ERR_STORAGE; errors of steps are in the
 * report
 */
export async function release(host: Host, options: UndoOptions): Promise<UndoReport> {
  if (options.isDry) return { plan: await planUndo(host, options, options.looks), outcomes: [] };
  const lock = { waitSeconds: options.lockWaitSeconds, command: 'release' };
  await using _lock = await options.act('take-lock', async () => await takeRunLock(host, lock));
  const plan = await planUndo(host, options, options.looks);
  if (plan.refusal !== undefined) throw plan.refusal;
  const hasWork = plan.groups.length > 0;
  if (hasWork) await options.confirm(plan);
  const outcomes = await executePlan(plan, options);
  // A store that stays open is checked, even if a failed step has ended its check.
  for (const notice of await startCheck(host, options.act)) host.log('warning', notice);
  if (hasWork || (await namesWhatIsGone(host))) await options.act('record-release', async () => await recordRelease(host, outcomes));
  return { plan, outcomes };
}

/** True if the state still names a store or registry: a killed release, or a power cut, may have prevented the last record. */
async function namesWhatIsGone(host: Host): Promise<boolean> {
  const state = await readState(host, DURABLE_STATE);
  return state !== undefined && state !== 'damaged' && (state.store !== undefined || state.registry !== undefined);
}

/** Removes store and registry from the state, because they are gone. */
async function recordRelease(host: Host, outcomes: readonly StepOutcome[]): Promise<void> {
  const isWhole = outcomes.every(({ result }) => result === 'done' || result === 'left');
  const releasedAt = host.clock.now().toISOString();
  const notice = `partly released at ${releasedAt}: run prestage-agent release again`;
  const bootId = await readBootId();
  for (const path of [DURABLE_STATE, LIVE_STATE]) {
    const state = await readState(host, path);
    if (state === undefined || state === 'damaged') continue;
    const { store: _store, registry: _registry, ...rest } = state;
    if (path === LIVE_STATE && state.bootId !== bootId) continue;
    await writeAtomic(
      hostPath(host, path),
      sealRecord(isWhole ? { ...rest, releasedAt } : { ...rest, notices: [...state.notices, notice] }),
    );
  }
}
