import { formatBytes, formatDuration, formatRate } from '../../model/bytes.ts';
import type { ErrorRecord } from '../../model/errors.ts';

/** The result for an image: fetched or written, complete already, failed, or not tried. */
export type PullResult = 'pulled' | 'kept' | 'failed' | 'skipped';

/** Events of a running pull. */
export type PullEvent =
  | { readonly kind: 'phase'; readonly text: string }
  /** `images` still to be pulled, `fetchBytes` still to be fetched over the network. */
  | { readonly kind: 'planned'; readonly images: number; readonly fetchBytes: number; readonly keptBytes: number }
  | { readonly kind: 'image-started'; readonly reference: string }
  | { readonly kind: 'bytes'; readonly bytes: number }
  | { readonly kind: 'image-retried'; readonly reference: string; readonly error: ErrorRecord; readonly pauseMs: number }
  | { readonly kind: 'image-finished'; readonly reference: string; readonly result: PullResult; readonly error?: ErrorRecord };

export type OnPullEvent = (event: PullEvent) => void;

/** A pull in figures. */
export interface PullProgress {
  readonly phase: string;
  readonly images: number;
  readonly finished: number;
  readonly failed: number;
  readonly fetchBytes: number;
  readonly fetchedBytes: number;
  readonly active: readonly string[];
}

export const noPullProgress: PullProgress = { phase: '', images: 0, finished: 0, failed: 0, fetchBytes: 0, fetchedBytes: 0, active: [] };

/** The figures after an event. Pure. */
export function advancePull(progress: PullProgress, event: PullEvent): PullProgress {
  switch (event.kind) {
    case 'phase':
      return { ...progress, phase: event.text };
    case 'planned':
      return { ...progress, phase: event.fetchBytes === 0 ? 'writing' : 'fetching', images: event.images, fetchBytes: event.fetchBytes };
    case 'image-started':
      return { ...progress, active: [...progress.active.filter((one) => one !== event.reference), event.reference] };
    case 'bytes':
      return { ...progress, fetchedBytes: progress.fetchedBytes + event.bytes };
    case 'image-retried':
      return progress;
    case 'image-finished':
      return {
        ...progress,
        finished: progress.finished + 1,
        failed: progress.failed + (event.result === 'failed' || event.result === 'skipped' ? 1 : 0),
        active: progress.active.filter((one) => one !== event.reference),
      };
  }
}

/** `12/20 images, 1.2 GiB of 2.8 GiB, 98 MiB/s, 17 s left`. Data that is fetched again after a failure counts twice. Pure. */
export function describePull(progress: PullProgress, elapsedMs: number): string {
  const failed = progress.failed === 0 ? '' : `, ${progress.failed} failed`;
  const images = `${progress.finished}/${progress.images} images${failed}`;
  if (progress.fetchBytes === 0) return images;
  const done = Math.min(progress.fetchBytes, progress.fetchedBytes);
  const rate = elapsedMs > 0 ? progress.fetchedBytes / (elapsedMs / 1000) : 0;
  const left = rate > 0 && done < progress.fetchBytes ? `, ${formatDuration(((progress.fetchBytes - done) / rate) * 1000)} left` : '';
  return `${images}, ${formatBytes(done)} of ${formatBytes(progress.fetchBytes)}, ${formatRate(rate)}${left}`;
}

/** The line for an event if there is no terminal; undefined for frequent events. Pure. */
export function pullLine(event: PullEvent, progress: PullProgress): string | undefined {
  switch (event.kind) {
    case 'phase':
      return event.text;
    case 'planned':
      return `${event.images} images to pull: ${formatBytes(event.fetchBytes)} to fetch, ${formatBytes(event.keptBytes)} already there`;
    case 'image-started':
    case 'bytes':
      return undefined;
    case 'image-retried':
      return `${event.error.message}; retrying in ${event.pauseMs / 1000} s`;
    case 'image-finished':
      // The command itself says once that it was interrupted.
      if (event.error?.code === 'ERR_INTERRUPTED') return undefined;
      return `${progress.finished}/${progress.images} ${event.result} ${event.reference}${event.error === undefined ? '' : `: ${event.error.code}: ${event.error.message}`}`;
  }
}
