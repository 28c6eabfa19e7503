import { runProgram } from './cli/program.ts';
import { isJournal, textStream } from './host/text-stream.ts';
import { type ErrorRecord, errorRecord, exitCodeOf, exitCodes } from './model/errors.ts';

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

/** Set where the answer could not be written as a whole. */
let writeFailure: ErrorRecord | undefined;

/** A reader that has gone (`| head`) has what it wanted: what goes on for its sake ends. A full disk behind `> FILE` would leave half an answer, and tells so. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') stop.abort();
  else writeFailure ??= errorRecord(error);
});
// No run ends because nobody reads its messages any more.
process.stderr.on('error', () => undefined);

const out = textStream(process.stdout, { isJournal: isJournal(1, process.env) });
const err = textStream(process.stderr, { isJournal: process.env.JOURNAL_STREAM !== undefined && !process.stderr.isTTY });

function finish(exitCode: number, failure: ErrorRecord | undefined): void {
  if (failure !== undefined) err.write(`${failure.code}: ${failure.message}\n${failure.remedy}\n`);
  process.exitCode = exitCode;
}

/** Streams tell of a failed write in the next turn of the loop. */
process.once('beforeExit', () => {
  if (writeFailure !== undefined && process.exitCode === 0) finish(exitCodeOf('ERR_SYSTEM'), writeFailure);
});

// No top-level await: the executable carries one CommonJS file.
runProgram(process.argv.slice(2), {
  out,
  err,
  get in() {
    return process.stdin;
  },
  env: process.env,
  stop: stop.signal,
  kill: kill.signal,
}).then(
  (exitCode) => finish(exitCode, undefined),
  (error: unknown) => finish(exitCodes.internal, errorRecord(error)),
);
