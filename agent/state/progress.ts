import { formatBytes, formatDuration, formatRate } from '../model/bytes.ts';
import type { ErrorRecord } from '../model/errors.ts';

/** What a run reports while it works. Sizes are bytes of archives. */
export type RunEvent =
  | { readonly kind: 'phase'; readonly text: string }
  | { readonly kind: 'planned'; readonly images: number; readonly alreadyDone: number; readonly toLoad: number; readonly bytes: number }
  | { readonly kind: 'image-started'; readonly reference: string; readonly bytes: number; readonly attempt: number }
  | { readonly kind: 'image-read'; readonly reference: string; readonly bytesRead: number }
  | { readonly kind: 'image-copying'; readonly reference: string }
  | { readonly kind: 'image-retried'; readonly reference: string; readonly error: ErrorRecord; readonly pauseMs: number }
  | {
      readonly kind: 'image-finished';
      readonly reference: string;
      readonly result: 'loaded' | 'failed' | 'skipped';
      readonly bytes: number;
      readonly error?: ErrorRecord;
    };

export type OnRunEvent = (event: RunEvent) => void;

/** One image that is being worked on. */
export interface ActiveImage {
  readonly reference: string;
  readonly bytes: number;
  readonly bytesRead: number;
  readonly isCopying: boolean;
}

/** The progress of a run in figures, for people. */
export interface Progress {
  readonly phase: string;
  readonly images: number;
  readonly finished: number;
  readonly failed: number;
  readonly bytes: number;
  readonly bytesFinished: number;
  readonly active: readonly ActiveImage[];
}

export const noProgress: Progress = { phase: 'starting', images: 0, finished: 0, failed: 0, bytes: 0, bytesFinished: 0, active: [] };

/** The figures after an event. Pure. */
export function advance(progress: Progress, event: RunEvent): Progress {
  switch (event.kind) {
    case 'phase':
      return { ...progress, phase: event.text };
    case 'planned':
      return { ...progress, images: event.images, finished: event.alreadyDone, bytes: event.bytes };
    case 'image-started': {
      const others = progress.active.filter((image) => image.reference !== event.reference);
      return { ...progress, active: [...others, { reference: event.reference, bytes: event.bytes, bytesRead: 0, isCopying: false }] };
    }
    case 'image-read':
      return withActive(progress, event.reference, { bytesRead: event.bytesRead });
    case 'image-copying':
      return withActive(progress, event.reference, { isCopying: true });
    case 'image-retried':
      return withActive(progress, event.reference, { bytesRead: 0, isCopying: false });
    case 'image-finished':
      return {
        ...progress,
        finished: progress.finished + 1,
        failed: progress.failed + (event.result === 'loaded' ? 0 : 1),
        bytesFinished: progress.bytesFinished + event.bytes,
        active: progress.active.filter((image) => image.reference !== event.reference),
      };
  }
}

/** `12/20 images, 1.2 GiB of 2.8 GiB, 98 MiB/s, 17 s left`. Pure. */
export function describeProgress(progress: Progress, elapsedMs: number): string {
  if (progress.bytes === 0) return `${progress.finished}/${progress.images} images`;
  const reading = progress.active.reduce((sum, image) => sum + image.bytesRead, 0);
  const done = Math.min(progress.bytes, progress.bytesFinished + reading);
  const rate = elapsedMs > 0 ? done / (elapsedMs / 1000) : 0;
  const left = rate > 0 && done > 0 ? `, ${formatDuration(((progress.bytes - done) / rate) * 1000)} left` : '';
  const failed = progress.failed === 0 ? '' : `, ${progress.failed} not loaded`;
  return `${progress.finished}/${progress.images} images${failed}, ${formatBytes(done)} of ${formatBytes(progress.bytes)}, ${formatRate(rate)}${left}`;
}

/** `reading 45 %` or `copying into storage`. Pure. */
export function describeActive(image: ActiveImage): string {
  if (image.isCopying) return 'copying into storage';
  return `reading ${image.bytes === 0 ? 0 : Math.floor((image.bytesRead / image.bytes) * 100)} %`;
}

function withActive(progress: Progress, reference: string, change: Partial<ActiveImage>): Progress {
  return { ...progress, active: progress.active.map((image) => (image.reference === reference ? { ...image, ...change } : image)) };
}
