import { runProgram } from './cli/program.ts';
import { errorRecord, exitCodes } from './model/errors.ts';

/**
 * An image that is being loaded may take so long to come to its end after SIGTERM; the units allow a minute more (TimeoutStopSec).
 */
const STOP_GRACE_MS = 240_000;

/**
 * What the agent writes others may read and nobody else may write, whatever the shell says from which it was started: engines of other users need
 * its files (a umask of 077), and who can write them can exchange them (a umask of 0). Secrets have modes of their own.
 */
process.umask(0o022);

const stop = new AbortController();
const kill = new AbortController();

function onSignal(): void {
  if (stop.signal.aborted) {
    kill.abort();
    return;
  }
  stop.abort();
  setTimeout(() => kill.abort(), STOP_GRACE_MS).unref();
}

process.on('SIGTERM', onSignal);
process.on('SIGINT', onSignal);

// No top-level await: the executable carries one CommonJS file.
runProgram(process.argv.slice(2), {
  out: process.stdout,
  err: process.stderr,
  get in() {
    return process.stdin;
  },
  env: process.env,
  stop: stop.signal,
  kill: kill.signal,
}).then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error: unknown) => {
    const { code, message, remedy } = errorRecord(error);
    process.stderr.write(`${code}: ${message}\n${remedy}\n`);
    process.exitCode = exitCodes.internal;
  },
);
