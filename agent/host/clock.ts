import { setTimeout as sleep } from 'node:timers/promises';

/** Time as the agent sees it. `monotonicMs` measures; `now` is for people only (it can be 1970 on a node). */
export interface Clock {
  now(): Date;
  monotonicMs(): number;
  /** Waits; rejects with the signal's reason where the signal fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => new Date(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    await sleep(ms, undefined, signal ? { signal } : {});
  },
};
