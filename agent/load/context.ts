import type { Host } from '../host/host.ts';
import type { Step } from '../host/steps.ts';
import { PrestageError } from '../model/errors.ts';
import type { Settings } from '../model/settings.ts';
import type { Stage } from '../model/stage.ts';
import type { OnRunEvent } from '../state/progress.ts';
import type { StateStore } from '../state/run-record.ts';
import type { PlanStep } from './plan.ts';
import type { Needs } from './preflight.ts';

export interface RunOptions {
  readonly settings: Settings & { readonly stage: Stage };
  readonly step: Step;
  /** No new image once it has fired. */
  readonly stop: AbortSignal;
  /** Ends what is at work, too. */
  readonly kill: AbortSignal;
  readonly onEvent: OnRunEvent;
  /** Plans, and writes nothing. */
  readonly isDry: boolean;
}

/** What the parts of one run share. */
export interface RunContext extends RunOptions {
  readonly host: Host;
  readonly store: StateStore;
  readonly stage: Stage;
}

/** What a run has planned. */
export interface Planned {
  /** What becomes of the images that are extracted. */
  readonly steps: readonly PlanStep[];
  /** What extracting needs; undefined where nothing is extracted. */
  readonly needs: Needs | undefined;
  /** What is set up on the node besides, line by line. */
  readonly setup: readonly string[];
}

/** How whatever a stop signal cuts short ends. */
export function interrupted(cause?: unknown): PrestageError {
  return new PrestageError('ERR_INTERRUPTED', 'the run was asked to end', 'Start the run again: it goes on from here', { cause });
}

/** Puts what a person should know into the state. */
export function addNotices({ store }: Pick<RunContext, 'store'>, notices: readonly string[]): void {
  if (notices.length > 0) store.update({ notices: [...new Set([...store.state.notices, ...notices])] });
}
