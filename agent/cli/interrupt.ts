import { PrestageError } from '../model/errors.ts';
import type { Terminal } from './context.ts';

/** The stop of a terminal as a signal whose reason says what it means: the first SIGTERM or SIGINT ends the command with ERR_INTERRUPTED. */
export function stopSignal(terminal: Pick<Terminal, 'stop'>, remedy: string): AbortSignal {
  const controller = new AbortController();
  const onStop = (): void => controller.abort(new PrestageError('ERR_INTERRUPTED', 'the command was ended before it was through', remedy));
  if (terminal.stop.aborted) onStop();
  else terminal.stop.addEventListener('abort', onStop, { once: true });
  return controller.signal;
}
