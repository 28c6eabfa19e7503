import { PrestageError } from '../model/errors.ts';
import type { Terminal } from './context.ts';

/** The stop signal of a terminal with ERR_INTERRUPTED as its reason: the first SIGTERM or SIGINT ends the command with this error. */
export function stopSignal(terminal: Pick<Terminal, 'stop'>, remedy: string): AbortSignal {
  const controller = new AbortController();
  const onStop = (): void => controller.abort(new PrestageError('ERR_INTERRUPTED', 'the command was interrupted', remedy));
  if (terminal.stop.aborted) onStop();
  else terminal.stop.addEventListener('abort', onStop, { once: true });
  return controller.signal;
}
