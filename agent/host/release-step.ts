import type { StepName } from './steps.ts';

/** One thing that `release` undoes. To be run once, in the order given; another look tells what is still to do. */
export interface ReleaseStep {
  readonly name: StepName;
  /** What is undone, for the plan: `remove /etc/…`. */
  readonly text: string;
  readonly run: () => Promise<void>;
}
