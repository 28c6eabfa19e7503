import type { StepName } from './steps.ts';

/** One step of `release`. Steps run once, in the given order; a new survey shows what remains. */
export interface ReleaseStep {
  readonly name: StepName;
  /** Its description in the plan: `remove /etc/…`. */
  readonly text: string;
  readonly run: () => Promise<void>;
}
