import { advancePull, describePull, noPullProgress, type OnPullEvent, pullLine } from '../factory/pull/progress.ts';
import type { Host } from '../host/host.ts';
import type { TextStream } from '../host/text-stream.ts';
import { isLiveTerminal } from './screen.ts';
import { liveLines, REDRAW_MS, SILENCE_LIMIT_MS } from './show-progress.ts';

export interface PullDisplay extends Disposable {
  readonly onEvent: OnPullEvent;
}

/** Shows a pull: on a terminal one live line for each active image and one with totals, elsewhere plain lines with `n/N`. */
export function showPull(host: Host, stream: TextStream): PullDisplay {
  const live = isLiveTerminal(stream, host.env) ? liveLines(stream) : undefined;
  let progress = noPullProgress;
  let startMs = host.clock.monotonicMs();
  let lastLineMs = startMs;
  /** Before the plan there are no images to count. */
  const total = (): string => {
    const { phase, images } = progress;
    return images === 0 ? phase : `${phase}: ${describePull(progress, host.clock.monotonicMs() - startMs)}`;
  };
  const say = (text: string): void => {
    lastLineMs = host.clock.monotonicMs();
    live?.clear();
    host.log('info', text);
  };
  const timer = setInterval(() => {
    if (progress.phase === '') return;
    if (live !== undefined) live.draw([...progress.active.map((reference) => `  ${reference}`), total()]);
    else if (host.clock.monotonicMs() - lastLineMs >= SILENCE_LIMIT_MS) say(total());
  }, REDRAW_MS);
  timer.unref();
  return {
    onEvent: (event) => {
      // The rate is that of the transfer, without the time for the plan.
      if (event.kind === 'planned') startMs = host.clock.monotonicMs();
      progress = advancePull(progress, event);
      const line = pullLine(event, progress);
      if (line !== undefined) say(line);
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      live?.clear();
    },
  };
}
