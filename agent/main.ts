import { runProgram } from './cli/program.ts';
import { isJournal, textStream } from './host/text-stream.ts';
import { type ErrorRecord, errorRecord, exitCodeOf, exitCodes } from './model/errors.ts';

/**
 * How long an image that is being loaded may take to finish after SIGTERM, in milliseconds; the units allow a minute more (TimeoutStopSec).
 */
const STOP_GRACE_MS = 240_000;

/**
 * Files of the agent are readable for everybody and writable only for their owner, independent of the umask of the caller: with a umask of 077,
 * engines of other users could not read them; with a umask of 0, every user could replace them. Secrets have their own modes.
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

/** Set if the answer could not be written completely. */
let writeFailure: ErrorRecord | undefined;

/** If the reader has closed the pipe (`| head`), stop working. If the disk behind `> FILE` is full, report that the answer is incomplete. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') stop.abort();
  else writeFailure ??= errorRecord(error);
});
// A run must not end because nobody reads its messages any more.
process.stderr.on('error', () => undefined);

const out = textStream(process.stdout, { isJournal: isJournal(1, process.env) });
const err = textStream(process.stderr, { isJournal: process.env.JOURNAL_STREAM !== undefined && !process.stderr.isTTY });

function finish(exitCode: number, failure: ErrorRecord | undefined): void {
  if (failure !== undefined) err.write(`${failure.code}: ${failure.message}\n${failure.remedy}\n`);
  process.exitCode = exitCode;
}

/** Streams report a failed write only in the next turn of the event loop. */
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
