import { setTimeout as sleep } from 'node:timers/promises';

/** The clock of the agent. `monotonicMs` is for measuring; `now` is only for people (it can be 1970 on a node). */
export interface Clock {
  now(): Date;
  monotonicMs(): number;
  /** Waits; rejects with the signal's reason if the signal fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, signal ? { signal } : {});
  },
};
