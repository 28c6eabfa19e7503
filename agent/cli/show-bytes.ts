import type { Host } from '../host/host.ts';
import { own, type TextStream } from '../host/text-stream.ts';
import { formatBytes, formatRate } from '../model/bytes.ts';
import { cutLine, isLiveTerminal, SPARE_FOR_ECHO, screenOf } from './screen.ts';

/** Progress of work that is measured in bytes. */
interface BytesProgress {
  readonly phase: string;
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface BytesDisplay extends Disposable {
  readonly onProgress: (progress: BytesProgress) => void;
  /** Removes the live line, so that other text can be written. */
  readonly clear: () => void;
}

/** Shortest time between two drawings of the live line, and longest time between two lines without a terminal. */
const REDRAW_MS = 200;
const SILENCE_LIMIT_MS = 10_000;

/** Shows progress in bytes: on a terminal one live line, elsewhere a line for each phase and one every ten seconds. Source: ECMA-48, EL. */
export function showBytes(host: Host, stream: TextStream): BytesDisplay {
  const isLive = isLiveTerminal(stream, host.env);
  let phase = '';
  let phaseStartMs = 0;
  let shownMs = 0;
  const clear = (): void => {
    if (isLive) stream.write(own('\r\u001b[K'));
  };
  return {
    clear,
    onProgress: (progress) => {
      const nowMs = host.clock.monotonicMs();
      if (progress.phase !== phase) {
        phase = progress.phase;
        [phaseStartMs, shownMs] = [nowMs, nowMs];
        if (!isLive) host.log('info', `${phase} ${formatBytes(progress.totalBytes)}`);
      }
      if (nowMs - shownMs < (isLive ? REDRAW_MS : SILENCE_LIMIT_MS)) return;
      shownMs = nowMs;
      const line = describeBytes(progress, nowMs - phaseStartMs);
      if (isLive) stream.write(`${own('\r\u001b[K')}${cutLine(line, screenOf(stream), SPARE_FOR_ECHO)}`);
      else host.log('info', line);
    },
    [Symbol.dispose]: clear,
  };
}

/** Pure. */
function describeBytes({ phase, bytes, totalBytes }: BytesProgress, elapsedMs: number): string {
  const rate = elapsedMs < 1 ? '' : `, ${formatRate(bytes / (elapsedMs / 1000))}`;
  return `${phase}: ${formatBytes(bytes)} of ${formatBytes(totalBytes)}${rate}`;
}
