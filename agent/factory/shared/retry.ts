import type { Clock } from '../../host/clock.ts';

export interface RetryOptions {
  readonly clock: Clock;
  /** Attempts after the first. */
  readonly retries: number;
  readonly isRetryable: (error: unknown) => boolean;
  /** Ends a pause; the work itself has to listen to it, too. */
  readonly signal: AbortSignal;
  readonly onRetry: (error: unknown, pauseMs: number) => void;
}

const FIRST_PAUSE_MS = 1000;
const PAUSE_LIMIT_MS = 30_000;

/** Pause before the attempt with this number (the second is 1): doubled each time up to 30 s. Pure. */
export function pauseBefore(attempt: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** (attempt - 1), PAUSE_LIMIT_MS);
}

/** Repeats the work until it succeeds, fails for good, or has no retries left; then throws its last error. */
export async function withRetries<T>(options: RetryOptions, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt > options.retries || options.signal.aborted || !options.isRetryable(error)) throw error;
      const pauseMs = pauseBefore(attempt);
      options.onRetry(error, pauseMs);
      await options.clock.sleep(pauseMs, options.signal).catch(() => undefined);
    }
  }
}
