import type { Host } from '../host/host.ts';
import { own, type TextStream } from '../host/text-stream.ts';
import { visibleLine } from '../model/visible.ts';
import { cutLine, isLiveTerminal, SPARE_FOR_ECHO, screenOf } from './screen.ts';

/** Shows the progress of a long command: one live line on a terminal, a line now and then elsewhere. */
export interface TotalsDisplay extends Disposable {
  /** Prints a permanent line. */
  say(text: string): void;
}

const REDRAW_MS = 200;
/** Longest time between two lines without a terminal. */
const SILENCE_LIMIT_MS = 10_000;

/** @param describe gives the totals as one line without a line end; called several times a second */
export function showTotals(host: Host, stream: TextStream, describe: () => string): TotalsDisplay {
  const isLive = isLiveTerminal(stream, host.env);
  let drawn = '';
  let lastLineMs = host.clock.monotonicMs();
  const clear = (): void => {
    // ECMA-48: CR, EL (`ESC [ K`).
    if (drawn !== '') stream.write(own('\r\u001b[K'));
    drawn = '';
  };
  const say = (text: string): void => {
    clear();
    lastLineMs = host.clock.monotonicMs();
    host.log('info', text);
  };
  const tick = (): void => {
    if (!isLive) {
      if (host.clock.monotonicMs() - lastLineMs >= SILENCE_LIMIT_MS) say(describe());
      return;
    }
    const text = cutLine(visibleLine(describe()), screenOf(stream), SPARE_FOR_ECHO);
    if (text === drawn) return;
    clear();
    stream.write(text);
    drawn = text;
  };
  const timer = setInterval(tick, REDRAW_MS);
  timer.unref();
  return {
    say,
    [Symbol.dispose]: () => {
      clearInterval(timer);
      clear();
    },
  };
}
