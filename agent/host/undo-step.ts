import type { ActName } from './acts.ts';

/** One step of `release`. Steps run once, in the given order; a new survey shows what remains. */
export interface UndoStep {
  readonly name: ActName;
  /** Its description in the plan: `remove /etc/…`. */
  readonly text: string;
  readonly run: () => Promise<void>;
}
