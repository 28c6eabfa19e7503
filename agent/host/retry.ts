import type { Clock } from './clock.ts';

export interface RetryOptions {
  readonly clock: Pick<Clock, 'sleep'>;
  /** Attempts after the first. */
  readonly retries: number;
  readonly isRetryable: (error: unknown) => boolean;
  /** Milliseconds to wait before the next attempt, by the number of failures so far; `pauseBefore` if left out. */
  readonly pauseMs?: (failures: number, error: unknown) => number;
  /** Ends a pause; the work must listen to it, too. */
  readonly signal: AbortSignal;
  readonly onRetry: (error: unknown, pauseMs: number) => void;
}

const FIRST_PAUSE_MS = 1000;
const PAUSE_LIMIT_MS = 30_000;

/** Milliseconds to wait after a number of failures: the first pause, doubled with each further failure, at most 30 s. Pure. */
export function pauseBefore(failures: number, firstMs = FIRST_PAUSE_MS): number {
  return Math.min(firstMs * 2 ** (failures - 1), PAUSE_LIMIT_MS);
}

/** Repeats the work until it succeeds. Throws its error if that cannot be retried, or if no attempts are left. */
export async function withRetries<T>(options: RetryOptions, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (attempt > options.retries || options.signal.aborted || !options.isRetryable(error)) throw error;
      const pauseMs = options.pauseMs?.(attempt, error) ?? pauseBefore(attempt);
      options.onRetry(error, pauseMs);
      await options.clock.sleep(pauseMs, options.signal).catch(() => undefined);
    }
  }
}
