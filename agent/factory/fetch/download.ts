import { join } from 'node:path';
import type { Act } from '../../host/acts.ts';
import type { Clock } from '../../host/clock.ts';
import { pauseBefore } from '../../host/retry.ts';
import { PrestageError } from '../../model/errors.ts';
import { type HttpAnswer, type HttpClient, shown, Transient } from '../web/http.ts';
import {
  headerFault,
  headFault,
  isSameState,
  parseContentRange,
  parseCount,
  rangeCondition,
  type Validator,
  validatorOf,
} from './content.ts';
import { openPart, type Part, partBytes, removePart, writeFault } from './part.ts';

/** A file of a web server, and its path in the target. */
export interface RemoteFile {
  /** Relative to the target, with `/`. */
  readonly path: string;
  readonly url: URL;
  /** Size and hash in the manifest of the bundle; without a manifest, the server's information counts. */
  readonly seal?: { readonly sizeBytes: number; readonly sha256: string };
  /** Permission bits. */
  readonly mode: number;
}

export interface DownloadContext {
  /** Top of the target. */
  readonly directory: string;
  readonly client: HttpClient;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly act: Act;
  /** Retries after a temporary failure; attempts that made progress do not count. */
  readonly retries: number;
  readonly signal: AbortSignal;
  /** Reports the bytes of the file that have arrived so far. */
  readonly onBytes: (path: string, sizeBytes: number) => void;
  readonly onRetry: (path: string, error: PrestageError, pauseMs: number) => void;
}

/** A file that is complete. */
export interface Downloaded {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly validator: Validator;
}

/** A file of at most this size is fetched again from its start. */
const SMALL_BYTES = 1024 * 1024;
/** A complete file with wrong content is fetched only once more, unlike one that breaks off: it may have gigabytes. */
const CONTENT_TRIES = 2;
const FIRST_PAUSE_MS = 500;
/** Longest pause of a server (Retry-After) that is respected. */
const OBEYED_PAUSE_MS = 120_000;

/**
 * Fetches one file: continues where an earlier attempt ended (Range, If-Range), hashes the data, and moves the file into place only when it is
 * complete and correct.
 * @throws PrestageError ERR_FETCH_*, ERR_SPACE_FETCH; the signal's reason
 */
export async function download(file: RemoteFile, context: DownloadContext): Promise<Downloaded> {
  let reachedBytes = 0;
  let wrongContents = 0;
  for (let failures = 0; ; ) {
    try {
      return await attempt(file, context);
    } catch (error) {
      context.signal.throwIfAborted();
      if (!(error instanceof Transient)) throw error;
      if (error.error.code === 'ERR_FETCH_CONTENT' && ++wrongContents >= CONTENT_TRIES) throw error.error;
      const bytes = await partBytes(context.directory, file.path);
      failures = bytes > reachedBytes ? 1 : failures + 1;
      reachedBytes = Math.max(reachedBytes, bytes);
      if (failures > context.retries) throw error.error;
      const pauseMs = pauseAfter(failures, error.pauseMs);
      context.onRetry(file.path, error.error, pauseMs);
      await context.clock.sleep(pauseMs, context.signal);
    }
  }
}

/** How long to wait before a retry: doubled each time, or as long as the server asks. Pure. */
export function pauseAfter(failures: number, askedMs: number | undefined): number {
  if (askedMs !== undefined) return Math.min(askedMs, OBEYED_PAUSE_MS);
  return pauseBefore(failures, FIRST_PAUSE_MS);
}

async function attempt(file: RemoteFile, context: DownloadContext): Promise<Downloaded> {
  const target = join(context.directory, file.path);
  try {
    await using part = await openPart(context.directory, file.path, context.act);
    if (!isWhole(file, part)) {
      const answer = await askFor(file, part, context);
      const totalBytes = await begin(answer, { file, part, context });
      await receive(answer, { file, part, context, totalBytes });
      await judge(file, part, context);
    }
    const { validator, sizeBytes } = part;
    await part.finish({ path: target, mode: file.mode, modifiedMs: file.seal === undefined ? dateOf(validator.lastModified) : undefined });
    return { path: file.path, sizeBytes, sha256: part.sha256(), validator };
  } catch (error) {
    context.signal.throwIfAborted();
    if (error instanceof Transient || error instanceof PrestageError) throw error;
    throw writeFault(target, error);
  }
}

/** Whether the file is complete already and only has to be moved into place. */
function isWhole(file: RemoteFile, part: Part): boolean {
  return file.seal !== undefined && part.sizeBytes === file.seal.sizeBytes && part.sha256() === file.seal.sha256;
}

async function askFor(file: RemoteFile, part: Part, context: DownloadContext): Promise<HttpAnswer> {
  const condition = rangeCondition(part.validator);
  // Without a condition, a range may belong to another state of the file; the seal would show that at the end.
  const canResume = part.sizeBytes > 0 && part.sizeBytes !== file.seal?.sizeBytes && (condition !== undefined || file.seal !== undefined);
  const headers = canResume ? { Range: `bytes=${part.sizeBytes}-`, ...(condition !== undefined && { 'If-Range': condition }) } : {};
  return await context.client.ask(file.url, { method: 'GET', headers, signal: context.signal });
}

interface Transfer {
  readonly file: RemoteFile;
  readonly part: Part;
  readonly context: DownloadContext;
}

/** Checks the head of an answer and prepares the part for its body. Returns the size of the whole file in bytes, if the server states it. */
async function begin(answer: HttpAnswer, { file, part, context }: Transfer): Promise<number | undefined> {
  try {
    if (answer.status !== 200 && answer.status !== 206) {
      if (answer.status === 416) await removePart(context.directory, file.path);
      throw statusFault(answer, file.url);
    }
    const fault = headerFault(file.path, {
      contentType: answer.header('content-type'),
      contentEncoding: answer.header('content-encoding'),
    });
    if (fault !== undefined) throw contentFault(file, fault);
    const validator = validatorOf(answer);
    const totalBytes =
      answer.status === 206 ? await resume(answer, validator, { file, part, context }) : parseCount(answer.header('content-length'));
    if (answer.status === 200) await part.restart(validator, (totalBytes ?? Number.POSITIVE_INFINITY) > SMALL_BYTES);
    if (totalBytes !== undefined && file.seal !== undefined && totalBytes !== file.seal.sizeBytes) {
      throw contentFault(file, `has ${totalBytes} bytes on the server, but ${file.seal.sizeBytes} in the manifest`);
    }
    return totalBytes;
  } catch (error) {
    answer.drop();
    throw error;
  }
}

async function resume(answer: HttpAnswer, validator: Validator, { file, part, context }: Transfer): Promise<number | undefined> {
  const range = parseContentRange(answer.header('content-range'));
  const knowsState = part.validator.etag !== undefined || part.validator.lastModified !== undefined;
  const isOther = knowsState && (validator.etag ?? validator.lastModified) !== undefined && !isSameState(part.validator, validator);
  if (range?.first === part.sizeBytes && part.sizeBytes > 0 && !isOther) return range.total;
  await removePart(context.directory, file.path);
  throw new Transient(contentFault(file, isOther ? 'has changed on the server' : 'was sent from another position than requested'));
}

async function receive(answer: HttpAnswer, transfer: Transfer & { readonly totalBytes: number | undefined }): Promise<void> {
  const { file, part, context, totalBytes } = transfer;
  const limitBytes = totalBytes ?? file.seal?.sizeBytes ?? Number.POSITIVE_INFINITY;
  let isJudged = false;
  try {
    for await (const piece of answer.body()) {
      if (part.sizeBytes + piece.length > limitBytes) throw contentFault(file, `is longer than ${limitBytes} bytes`);
      await part.append(piece);
      // Check early: a wrong file may have gigabytes.
      if (!isJudged && part.head.length >= 16) await judgeHead(file, part, context);
      isJudged ||= part.head.length >= 16;
      context.onBytes(file.path, part.sizeBytes);
    }
  } catch (error) {
    answer.drop();
    throw error;
  }
  if (totalBytes !== undefined && part.sizeBytes < totalBytes) {
    throw new Transient(
      new PrestageError(
        'ERR_FETCH_NETWORK',
        `${shown(file.url)} broke off after ${part.sizeBytes} of ${totalBytes} bytes`,
        'Run the command again to continue',
      ),
    );
  }
}

/** Checks the complete file against its seal, and removes it if it differs. */
async function judge(file: RemoteFile, part: Part, context: DownloadContext): Promise<void> {
  await judgeHead(file, part, context);
  if (file.seal === undefined) return;
  const sha256 = part.sha256();
  if (isWhole(file, part)) return;
  await removePart(context.directory, file.path);
  const what = `has ${part.sizeBytes} bytes with sha256 ${sha256}, but the manifest says ${file.seal.sizeBytes} with ${file.seal.sha256}`;
  // Once more from its start: an earlier part, or a proxy, may have caused this.
  throw new Transient(contentFault(file, what));
}

async function judgeHead(file: RemoteFile, part: Part, context: DownloadContext): Promise<void> {
  const fault = headFault(file.path, part.head);
  // If there is a seal, its hash decides.
  if (fault === undefined || file.seal !== undefined) return;
  await removePart(context.directory, file.path);
  throw contentFault(file, fault);
}

/** The error for a status other than success. Source: RFC 9110, 15; RFC 6585, 4. */
export function statusFault(answer: Pick<HttpAnswer, 'status' | 'header'>, url: URL): Error {
  const { status } = answer;
  if (status >= 500 || status === 429 || status === 408 || status === 425 || status === 416) {
    const seconds = parseCount(answer.header('retry-after'));
    const error = new PrestageError(
      'ERR_FETCH_NETWORK',
      `${shown(url)} returned status ${status}`,
      'Check the log of the web server, then run the command again: fetched files are kept',
    );
    return new Transient(error, seconds === undefined ? undefined : seconds * 1000);
  }
  const remedy =
    status === 401 || status === 403
      ? "Give the login that the server demands, such as --header 'Authorization: Basic …', or make the folder public"
      : status === 407
        ? 'Give the user and password of the proxy in HTTPS_PROXY or HTTP_PROXY'
        : 'Compare the address with the files on the server';
  return new PrestageError('ERR_FETCH_REFUSED', `${shown(url)} returned status ${status}`, remedy);
}

function contentFault(file: RemoteFile, what: string): PrestageError {
  return new PrestageError(
    'ERR_FETCH_CONTENT',
    `${shown(file.url)} ${what}`,
    file.seal === undefined
      ? 'Open the address in a browser: the server sends something else instead of the file'
      : 'Put the files that belong to its prestage.json on the server, then fetch again',
  );
}

function dateOf(lastModified: string | undefined): number | undefined {
  const time = Date.parse(lastModified ?? '');
  return Number.isFinite(time) ? time : undefined;
}
