import { Agent as HttpAgent, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { getCACertificates } from 'node:tls';
import { PrestageError } from '../../model/errors.ts';
import { isWithoutProxy } from './no-proxy.ts';

/** Sends requests to web servers. Connections are kept; disposing of the client closes them. */
export interface HttpClient extends Disposable {
  /**
   * Sends a request and returns the answer when its head has arrived, with any status; follows redirects.
   * @throws Transient if no answer arrived; PrestageError if a retry is of no use; the signal's reason
   */
  ask(url: URL, request: HttpRequest): Promise<HttpAnswer>;
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  /** Of a POST; a redirect is followed without it. */
  readonly content?: string;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  /** The final address, after redirects; without user and password. */
  readonly url: URL;
  readonly status: number;
  /** The value of a header, by its lower-case name. */
  header(name: string): string | undefined;
  /**
   * The body, piece by piece. A body that is shorter than announced ends in Transient.
   * Read it to its end, or call `drop`.
   */
  body(): AsyncIterable<Buffer>;
  /** Discards the body. */
  drop(): void;
}

export interface HttpOptions {
  /** Sent with every request to the origin (scheme, host and port) of `origin`, and nowhere else. */
  readonly headers: Readonly<Record<string, string>>;
  readonly origin: string;
  /** PEM certificates to trust beside those of Node and of the machine. */
  readonly ca: string | undefined;
  /** Presented to servers that demand a client certificate, PEM. */
  readonly identity?: { readonly cert: string; readonly key: string };
  /** Accepts unverified certificates. */
  readonly isUnverified?: boolean;
  /** HTTP_PROXY, HTTPS_PROXY and NO_PROXY count, in upper or lower case. NO_PROXY is read as skopeo reads it (no-proxy.ts); Node reads it differently. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly userAgent: string;
  /** Longest time without a byte; 60 s if left out. */
  readonly silenceLimitMs?: number;
}

/** A failure that may pass by itself; `error` is reported if it does not. */
export class Transient extends Error {
  override readonly name = 'Transient';
  readonly error: PrestageError;
  /** How long the server asks to wait before the next attempt. */
  readonly pauseMs: number | undefined;

  constructor(error: PrestageError, pauseMs?: number) {
    super(error.message, { cause: error });
    this.error = error;
    this.pauseMs = pauseMs;
  }
}

const SILENCE_LIMIT_MS = 60_000;
const REDIRECT_LIMIT = 5;
const REDIRECTS: readonly number[] = [301, 302, 303, 307, 308];
const PROXY_VARIABLES: readonly string[] = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'];

/** Makes a client. Nothing is sent yet. */
export function createHttpClient(options: HttpOptions): HttpClient {
  const proxyEnv = Object.fromEntries(PROXY_VARIABLES.map((name) => [name, options.env[name]]));
  const noProxy = options.env.no_proxy ?? options.env.NO_PROXY ?? '';
  const agents = new Map<string, HttpAgent>();
  const newAgent = (isSecure: boolean, isDirect: boolean): HttpAgent => {
    const basics = { keepAlive: true, ...(!isDirect && { proxyEnv }) };
    if (!isSecure) return new HttpAgent(basics);
    const { ca, identity, isUnverified } = options;
    return new HttpsAgent({ ...basics, ca: readTrusted(ca), ...identity, rejectUnauthorized: isUnverified !== true });
  };
  const agentFor = (url: URL): HttpAgent => {
    const isDirect = isWithoutProxy(url, noProxy);
    const key = `${url.protocol} ${isDirect}`;
    const agent = agents.get(key) ?? newAgent(url.protocol === 'https:', isDirect);
    agents.set(key, agent);
    return agent;
  };
  const ask = async (url: URL, request: HttpRequest, redirects = 0): Promise<HttpAnswer> => {
    const message = await sent(url, request, { ...options, agent: agentFor(url) });
    const location = REDIRECTS.includes(message.statusCode ?? 0) ? message.headers.location : undefined;
    if (location === undefined) return answerOf(bare(url), message, request);
    message.destroy();
    const to = resolveRedirect(url, location, redirects);
    return await ask(to, to.origin === url.origin ? request : withoutLogin(request), redirects + 1);
  };
  return {
    ask: async (url, request) => await ask(url, request),
    [Symbol.dispose]: () => {
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

/** All bytes of an answer. @throws Transient, the signal's reason, and the error of `tooLong` */
export async function bytesOf(answer: HttpAnswer, limitBytes: number, tooLong: () => PrestageError): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of answer.body()) {
    sizeBytes += piece.length;
    if (sizeBytes > limitBytes) {
      answer.drop();
      throw tooLong();
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

/** Without the login, which is only for the server that was asked. */
function withoutLogin({ method, signal, headers = {} }: HttpRequest): HttpRequest {
  const kept = Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization');
  return { method: method === 'POST' ? 'GET' : method, signal, headers: Object.fromEntries(kept) };
}

/** A URL without user and password, which may be shown. */
export function bare(url: URL): URL {
  const copy = new URL(url);
  copy.username = '';
  copy.password = '';
  return copy;
}

/** A URL for messages. */
export function shown(url: URL): string {
  return bare(url).href;
}

async function sent(url: URL, request: HttpRequest, options: HttpOptions & { readonly agent: HttpAgent }): Promise<IncomingMessage> {
  request.signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const own = url.origin === options.origin ? options.headers : {};
  const details: RequestOptions = {
    method: request.method,
    agent: options.agent,
    signal: request.signal,
    // The bytes as stored on the server: sizes, ranges and hashes refer to these.
    headers: { 'User-Agent': options.userAgent, Accept: '*/*', 'Accept-Encoding': 'identity', ...own, ...request.headers },
  };
  const message = url.protocol === 'https:' ? requestHttps(url, details) : requestHttp(url, details);
  const limitMs = options.silenceLimitMs ?? SILENCE_LIMIT_MS;
  message.setTimeout(limitMs, () => message.destroy(new Error(`no data arrived for ${limitMs / 1000} s`)));
  message.once('response', resolve);
  message.once('error', reject);
  message.end(request.method === 'POST' ? request.content : undefined);
  try {
    return await promise;
  } catch (error) {
    request.signal.throwIfAborted();
    throw networkFault(bare(url), error);
  }
}

function answerOf(url: URL, message: IncomingMessage, { method, signal }: HttpRequest): HttpAnswer {
  return {
    url,
    status: message.statusCode ?? 0,
    header: (name) => {
      const value = message.headers[name];
      return typeof value === 'string' ? value : value?.join(', ');
    },
    // An answer to HEAD has no body, so the connection can be used again.
    drop: () => void (method === 'HEAD' ? message.resume() : message.destroy()),
    body: async function* () {
      try {
        for await (const piece of message) if (Buffer.isBuffer(piece)) yield piece;
      } catch (error) {
        signal.throwIfAborted();
        throw networkFault(url, error);
      }
    },
  };
}

/** The target of a redirect. A redirect from https to http is refused. */
function resolveRedirect(from: URL, location: string, redirects: number): URL {
  const to = URL.parse(location, from.href);
  const refusal =
    redirects >= REDIRECT_LIMIT
      ? `more than ${REDIRECT_LIMIT} redirects`
      : to === null || !/^https?:$/.test(to.protocol)
        ? `a redirect to something that is not a web address: ${JSON.stringify(location.slice(0, 160))}`
        : from.protocol === 'https:' && to.protocol === 'http:'
          ? `a redirect from https to ${shown(to)}`
          : undefined;
  if (refusal === undefined && to !== null) return to;
  throw new PrestageError('ERR_FETCH_REFUSED', `${shown(from)} sends ${refusal}`, 'Give the final address of the files');
}

/** Failures of name resolution, TLS and the address itself do not pass by themselves; other failures of the connection may. */
const LASTING = /^(ENOTFOUND|ERR_TLS_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_SSL_|EPROTO|ERR_INVALID_|ERR_UNESCAPED_|HPE_)/;

function networkFault(url: URL, error: unknown): Error {
  if (error instanceof PrestageError || error instanceof Transient) return error;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  const reason = error instanceof Error && error.message !== '' ? error.message : code || String(error);
  const isTrust = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS_|ERR_SSL_/.test(code);
  const fault = new PrestageError(
    'ERR_FETCH_NETWORK',
    `${shown(url)} cannot be fetched: ${reason}`,
    isTrust ? 'Give the CA certificate of the server with --ca, or use the host name in its certificate' : REMEDY,
    { cause: error },
  );
  return LASTING.test(code) ? fault : new Transient(fault);
}

const REMEDY = 'Check the address, the network and the server, then run the command again: fetched files are kept';

/** The certificates that Node trusts, that the machine trusts, and that the caller gives. */
function readTrusted(ca: string | undefined): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...(ca === undefined ? [] : [ca])])];
}
