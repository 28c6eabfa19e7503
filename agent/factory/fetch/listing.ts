import { withRetries } from '../../host/retry.ts';
import { PrestageError } from '../../model/errors.ts';
import { quoteInput } from '../../model/faults.ts';
import { bytesOf, type HttpAnswer, type HttpClient, type HttpRequest, shown, Transient } from '../web/http.ts';
import { parseCount, type Validator, validatorOf } from './content.ts';
import { pauseAfter, statusFault } from './download.ts';
import { INDEX_LIMIT_BYTES, type IndexPage, parseIndexPage } from './index-page.ts';

/** A file below a folder of a web server. */
export interface ListedFile {
  /** Relative to the folder, with `/`. */
  readonly path: string;
  readonly url: URL;
}

export interface Listing {
  readonly files: readonly ListedFile[];
  readonly notices: readonly string[];
}

/** A server's information about a file, without its content. */
export interface RemoteFacts {
  readonly sizeBytes: number | undefined;
  readonly validator: Validator;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
}

export interface AskContext {
  readonly client: HttpClient;
  readonly clock: { sleep(ms: number, signal?: AbortSignal): Promise<void> };
  readonly retries: number;
  readonly signal: AbortSignal;
  readonly onRetry: (path: string, error: PrestageError, pauseMs: number) => void;
}

/** Statuses of servers that do not support HEAD: Method Not Allowed, Not Implemented. The answer to GET has the facts. */
const NO_HEAD: readonly number[] = [405, 501];
/** Limits of a tree: an archives folder is flat, a bundle's registry tree is eight deep. They end loops of links on the server. */
const DEPTH_LIMIT = 12;
const PAGE_LIMIT = 2000;
const FILE_LIMIT = 100_000;

/**
 * All files below a folder of a web server, by the server's index pages.
 * @param folder URL with `/` at its end
 * @throws PrestageError ERR_FETCH_INDEX if a folder has no index page, ERR_FETCH_NETWORK, ERR_FETCH_REFUSED
 */
export async function listFolder(folder: URL, context: AskContext): Promise<Listing> {
  const files: ListedFile[] = [];
  const notices: string[] = [];
  const waiting = [{ path: '', url: folder, depth: 0 }];
  const seen = new Set([folder.href]);
  for (let pages = 0; waiting.length > 0; pages++) {
    const next = waiting.shift();
    if (next === undefined) break;
    if (pages >= PAGE_LIMIT) throw tooMuch(folder, `more than ${PAGE_LIMIT} folders`);
    const page = await readPage(next.url, context);
    notices.push(...page.refused.map((refusal) => `${shown(next.url)}: ${refusal}`));
    for (const entry of page.entries) {
      const url = new URL(entry.url);
      // User and password of the address are sent with every request to that server.
      if (url.origin === folder.origin) {
        url.username = folder.username;
        url.password = folder.password;
      }
      const path = next.path === '' ? entry.name : `${next.path}/${entry.name}`;
      if (entry.kind === 'file') files.push({ path, url });
      else if (next.depth >= DEPTH_LIMIT) throw tooMuch(folder, `folders nested more than ${DEPTH_LIMIT} deep (${quoteInput(path)})`);
      else if (!seen.has(url.href)) waiting.push({ path, url, depth: next.depth + 1 });
      seen.add(url.href);
    }
    if (files.length > FILE_LIMIT) throw tooMuch(folder, `more than ${FILE_LIMIT} files`);
  }
  return { files: files.toSorted((a, b) => (a.path < b.path ? -1 : 1)), notices };
}

/**
 * The server's information about a file, by HEAD.
 * @throws PrestageError ERR_FETCH_NETWORK, ERR_FETCH_REFUSED
 */
export async function factsOf(file: ListedFile, context: AskContext): Promise<RemoteFacts> {
  return await askWithRetries(file.path, context, async () => {
    const answer = await context.client.ask(file.url, { method: 'HEAD', signal: context.signal });
    answer.drop();
    if (NO_HEAD.includes(answer.status)) return { sizeBytes: undefined, validator: {}, contentType: undefined, contentEncoding: undefined };
    if (answer.status !== 200) throw statusFault(answer, file.url);
    return {
      sizeBytes: parseCount(answer.header('content-length')),
      validator: validatorOf(answer),
      contentType: answer.header('content-type'),
      contentEncoding: answer.header('content-encoding'),
    };
  });
}

/** A text of the server with its content type; undefined if it does not exist (404, 410). */
export async function readText(
  url: URL,
  limitBytes: number,
  context: AskContext,
): Promise<{ readonly bytes: Buffer; readonly contentType: string; readonly url: URL } | undefined> {
  return await askWithRetries(url.pathname, context, async () => {
    const request: HttpRequest = { method: 'GET', signal: context.signal };
    const answer = await context.client.ask(url, request);
    if (answer.status === 404 || answer.status === 410) {
      answer.drop();
      return undefined;
    }
    if (answer.status !== 200) {
      answer.drop();
      throw statusFault(answer, url);
    }
    return { bytes: await readBody(answer, limitBytes), contentType: answer.header('content-type') ?? '', url: answer.url };
  });
}

async function readPage(url: URL, context: AskContext): Promise<IndexPage> {
  const found = await readText(url, INDEX_LIMIT_BYTES, context);
  // Names are relative to the final address of the page: servers redirect a folder.
  const page = found === undefined ? undefined : parseIndexPage(found.bytes.toString('utf8'), new URL('.', found.url));
  if (page !== undefined) return page;
  throw new PrestageError(
    'ERR_FETCH_INDEX',
    `${shown(url)} ${found === undefined ? 'does not exist (404)' : 'is not an index page of nginx, Apache httpd or Python'}`,
    'Give the address of a folder with prestage.json, or turn on the index pages of the server (nginx: autoindex on)',
  );
}

async function readBody(answer: HttpAnswer, limitBytes: number): Promise<Buffer> {
  const tooLong = (): PrestageError =>
    new PrestageError(
      'ERR_FETCH_CONTENT',
      `${shown(answer.url)} has more than ${limitBytes} bytes`,
      'Give the address of a bundle or of its folder',
    );
  return await bytesOf(answer, limitBytes, tooLong);
}

async function askWithRetries<T>(path: string, context: AskContext, ask: () => Promise<T>): Promise<T> {
  const options = {
    ...context,
    isRetryable: (error: unknown) => error instanceof Transient,
    pauseMs: (failures: number, error: unknown) => pauseAfter(failures, transientOf(error)?.pauseMs),
    onRetry: (error: unknown, pauseMs: number) => {
      const failure = transientOf(error);
      if (failure !== undefined) context.onRetry(path, failure.error, pauseMs);
    },
  };
  try {
    return await withRetries(options, ask);
  } catch (error) {
    context.signal.throwIfAborted();
    throw transientOf(error)?.error ?? error;
  }
}

function transientOf(error: unknown): Transient | undefined {
  return error instanceof Transient ? error : undefined;
}

function tooMuch(folder: URL, what: string): PrestageError {
  return new PrestageError(
    'ERR_FETCH_INDEX',
    `${shown(folder)} holds ${what}`,
    'Give the address of the folder that holds the files, not of one above it',
  );
}
