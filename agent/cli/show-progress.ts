import type { Host } from '../host/host.ts';
import type { Severity } from '../host/log.ts';
import { createNotifier } from '../host/notify.ts';
import { own, type TextStream } from '../host/text-stream.ts';
import { formatBytes } from '../model/bytes.ts';
import { visibleLine } from '../model/visible.ts';
import { advance, describeActive, describeProgress, noProgress, type OnRunEvent, type Progress, type RunEvent } from '../state/progress.ts';

/** Longest time between two lines without a terminal. */
export const SILENCE_LIMIT_MS = 10_000;
export const REDRAW_MS = 200;

export interface ProgressDisplay extends Disposable {
  readonly onEvent: OnRunEvent;
}

/**
 * Shows a run: on a terminal one live line for each active image and one with totals, elsewhere plain lines with `n/N`; and to systemd, if it
 * listens.
 */
export function showProgress(host: Host, stream: TextStream): ProgressDisplay {
  const startMs = host.clock.monotonicMs();
  const notifier = createNotifier(host);
  const live = stream.isTTY === true && host.env.TERM !== 'dumb' ? liveLines(stream) : undefined;
  let progress = noProgress;
  let lastLineMs = startMs;
  const total = (): string => describeProgress(progress, host.clock.monotonicMs() - startMs);
  const say = ({ severity, text }: ProgressLine): void => {
    lastLineMs = host.clock.monotonicMs();
    live?.clear();
    host.log(severity, text);
  };
  const redraw = (): void => {
    if (live !== undefined)
      live.draw([
        ...progress.active.map((image) => `  ${describeActive(image).padEnd(22)} ${image.reference}`),
        `${progress.phase}: ${total()}`,
      ]);
    else if (host.clock.monotonicMs() - lastLineMs >= SILENCE_LIMIT_MS) say({ severity: 'info', text: heartbeat(progress, total()) });
  };
  const timer = setInterval(redraw, REDRAW_MS);
  timer.unref();
  return {
    onEvent: (event) => {
      progress = advance(progress, event);
      const line = lineFor(event, progress);
      if (line !== undefined) say(line);
      notifier.status(progress.images === 0 ? progress.phase : `${progress.phase}: ${total()}`);
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      live?.clear();
    },
  };
}

/** A line for a person or the journal. */
interface ProgressLine {
  readonly severity: Severity;
  readonly text: string;
}

/** The line for an event if there is no terminal; undefined for events that are too frequent. Pure. */
function lineFor(event: RunEvent, progress: Progress): ProgressLine | undefined {
  switch (event.kind) {
    case 'phase':
      return { severity: 'info', text: event.text };
    case 'planned':
      return {
        severity: 'info',
        text: `${event.images} images: ${event.alreadyDone} in storage, ${event.toLoad} to load (${formatBytes(event.bytes)})`,
      };
    case 'image-started':
    case 'image-read':
    case 'image-copying':
      return undefined;
    case 'image-retried':
      return { severity: 'warning', text: `${event.reference}: ${event.error.message}; retrying in ${event.pauseMs / 1000} s` };
    case 'image-finished':
      return finishedLine(event, `${progress.finished}/${progress.images} ${event.result} ${event.reference}`);
  }
}

function finishedLine(event: Extract<RunEvent, { kind: 'image-finished' }>, text: string): ProgressLine {
  if (event.error === undefined) return { severity: 'info', text };
  return { severity: event.result === 'skipped' ? 'warning' : 'error', text: `${text}: ${event.error.code}: ${event.error.message}` };
}

function heartbeat(progress: Progress, total: string): string {
  const active = progress.active.map((image) => `${describeActive(image)} ${image.reference}`).join('; ');
  return `${progress.phase}: ${total}${active && `; ${active}`}`;
}

/** Lines at the end of the terminal that are redrawn in place. Source: ECMA-48, CUU (`ESC [ n A`) and ED (`ESC [ J`). */
export function liveLines(stream: TextStream) {
  let drawn = 0;
  const clear = (): void => {
    if (drawn > 0) stream.write(own(`\u001b[${drawn}A\u001b[J`));
    drawn = 0;
  };
  return {
    clear,
    draw: (texts: readonly string[]): void => {
      clear();
      const lines = texts.map(visibleLine);
      // A serial console has no size: it reports 0.
      const width = Math.max(20, (stream.columns || 80) - 1);
      stream.write(lines.map((line) => `${line.length > width ? `${line.slice(0, width - 1)}…` : line}\n`).join(''));
      drawn = lines.length;
    },
  };
}
