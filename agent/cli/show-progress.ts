import type { Host } from '../host/host.ts';
import type { Severity } from '../host/log.ts';
import { createNotifier } from '../host/notify.ts';
import { own, type TextStream } from '../host/text-stream.ts';
import { formatBytes } from '../model/bytes.ts';
import { shortDigests } from '../model/digest.ts';
import { visibleLine } from '../model/visible.ts';
import { advance, describeActive, describeProgress, noProgress, type OnRunEvent, type Progress, type RunEvent } from '../state/progress.ts';
import { cutLine, isLiveTerminal, SPARE_COLUMNS, screenOf } from './screen.ts';

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
  const live = isLiveTerminal(stream, host.env) ? liveLines(stream) : undefined;
  let progress = noProgress;
  let lastLineMs = startMs;
  /** Before the plan there are no images to count. */
  const total = (): string => {
    const { phase, images } = progress;
    return images === 0 ? phase : `${phase}: ${describeProgress(progress, host.clock.monotonicMs() - startMs)}`;
  };
  const say = ({ severity, text }: ProgressLine): void => {
    lastLineMs = host.clock.monotonicMs();
    live?.clear();
    host.log(severity, text);
  };
  const redraw = (): void => {
    if (live !== undefined)
      live.draw([...progress.active.map((image) => `  ${describeActive(image).padEnd(22)} ${image.reference}`), total()]);
    else if (host.clock.monotonicMs() - lastLineMs >= SILENCE_LIMIT_MS) say({ severity: 'info', text: heartbeat(progress, total()) });
  };
  const timer = setInterval(redraw, REDRAW_MS);
  timer.unref();
  return {
    onEvent: (event) => {
      progress = advance(progress, event);
      const line = lineFor(event, progress);
      if (line !== undefined) say(line);
      notifier.status(total());
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
      // The command itself says once that it was interrupted.
      if (event.error?.code === 'ERR_INTERRUPTED') return undefined;
      return finishedLine(event, `${progress.finished}/${progress.images} ${event.result} ${event.reference}`);
  }
}

function finishedLine(event: Extract<RunEvent, { kind: 'image-finished' }>, text: string): ProgressLine {
  if (event.error === undefined) return { severity: 'info', text };
  return { severity: event.result === 'skipped' ? 'warning' : 'error', text: `${text}: ${event.error.code}: ${event.error.message}` };
}

function heartbeat(progress: Progress, total: string): string {
  const active = progress.active.map((image) => `${describeActive(image)} ${image.reference}`).join('; ');
  return `${total}${active && `; ${active}`}`;
}

/** Lines at the end of the terminal that are redrawn in place. Source: ECMA-48, CUU (`ESC [ n A`) and ED (`ESC [ J`). */
export function liveLines(stream: TextStream) {
  let drawn = 0;
  const clear = (): void => {
    // CR first: the terminal shows `^C` at the cursor, and what is above it must go from its first column on.
    if (drawn > 0) stream.write(own(`\r\u001b[${drawn}A\u001b[J`));
    drawn = 0;
  };
  return {
    clear,
    draw: (texts: readonly string[]): void => {
      clear();
      const { columns, rows } = screenOf(stream);
      // If there are more lines than the console has, the last ones: they have the totals.
      const lines = texts.slice(-Math.max(1, rows - 1)).map((text) => cutLine(shortDigests(visibleLine(text)), { columns }, SPARE_COLUMNS));
      stream.write(lines.map((line) => `${line}\n`).join(''));
      drawn = lines.length;
    },
  };
}
