import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';
import type { RunPhase } from '../model/run-timeline.ts';
import type { Settings } from '../model/settings.ts';
import type { Stage } from '../model/stage.ts';
import type { OnRunEvent } from '../state/progress.ts';
import type { RunRecord } from '../state/run-record.ts';
import type { PlanStep } from './plan.ts';
import type { Needs } from './preflight.ts';

export interface RunOptions {
  readonly settings: Settings & { readonly stage: Stage };
  readonly act: Act;
  /** Once it has fired, no new image is started. */
  readonly stop: AbortSignal;
  /** Also ends the work in progress. */
  readonly kill: AbortSignal;
  readonly onEvent: OnRunEvent;
  /** Only plans; writes nothing. */
  readonly isDry: boolean;
}

/** What the parts of one run share. */
export interface RunContext extends RunOptions {
  readonly host: Host;
  readonly record: RunRecord;
  readonly stage: Stage;
}

/** What a run has planned. */
export interface Planned {
  /** What happens to each image that is extracted. */
  readonly steps: readonly PlanStep[];
  /** What extracting needs; undefined if nothing is extracted. */
  readonly needs: Needs | undefined;
  /** What else is set up on the node, line by line. */
  readonly setup: readonly string[];
}

/** The error of any work that a stop signal cuts short. */
export function interruptedError(cause?: unknown): PrestageError {
  return new PrestageError('ERR_INTERRUPTED', 'the run was interrupted', 'Start the run again; it continues where it stopped', { cause });
}

/** Begins a phase of the run: in its record, and for those who watch it. */
export function beginPhase({ record, onEvent }: Pick<RunContext, 'record' | 'onEvent'>, phase: RunPhase, text: string): void {
  record.update({ phase });
  onEvent({ kind: 'phase', text });
}

/** Adds notices for people to the state, each once. */
export function addNotices({ record }: Pick<RunContext, 'record'>, notices: readonly string[]): void {
  if (notices.length > 0) record.update({ notices: [...new Set([...record.state.notices, ...notices])] });
}
