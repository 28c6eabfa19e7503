import { Agent as HttpAgent, type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { getCACertificates } from 'node:tls';
import { PrestageError } from '../../model/errors.ts';
import { isWithoutProxy } from './no-proxy.ts';

/** Asks web servers. Connections are kept; disposing of the client closes them. */
export interface HttpClient extends Disposable {
  /**
   * Sends a request and gives the answer when its head has come, whatever its status; redirects are followed.
   * @throws Transient where no answer came; PrestageError where trying again is of no use; the signal's reason
   */
  ask(url: URL, request: HttpRequest): Promise<HttpAnswer>;
}

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  /** Of a POST; a redirect is answered without it. */
  readonly content?: string;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  /** Where it came from, after redirects; without user and password. */
  readonly url: URL;
  readonly status: number;
  /** The value of a header, by its lower-case name. */
  header(name: string): string | undefined;
  /**
   * The body, piece by piece; all of it, or an error: a body that is shorter than announced ends in Transient.
   * Either this is read to its end or `drop` is called.
   */
  body(): AsyncIterable<Buffer>;
  /** Gives up the body. */
  drop(): void;
}

export interface HttpOptions {
  /** Sent with every request to the origin (scheme, host and port) of `origin`, and nowhere else. */
  readonly headers: Readonly<Record<string, string>>;
  readonly origin: string;
  /** PEM certificates to trust beside those of Node and of the machine. */
  readonly ca: string | undefined;
  /** Shown to servers that ask who the client is, PEM. */
  readonly identity?: { readonly cert: string; readonly key: string };
  /** Takes certificates that nobody vouches for. */
  readonly isUnverified?: boolean;
  /** HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case of letters, count: the last as for skopeo (no-proxy.ts), which Node reads otherwise. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly userAgent: string;
  /** Longest time without a byte; 60 s where left out. */
  readonly silenceLimitMs?: number;
}

/** A failure that may pass by itself; `error` is what is told where it does not. */
export class Transient extends Error {
  override readonly name = 'Transient';
  readonly error: PrestageError;
  /** What the server asks for: so long to wait before the next try. */
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
    return new HttpsAgent({ ...basics, ca: trusted(ca), ...identity, rejectUnauthorized: isUnverified !== true });
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
    const to = redirected(url, location, redirects);
    return await ask(to, to.origin === url.origin ? request : withoutLogin(request), redirects + 1);
  };
  return {
    ask: async (url, request) => await ask(url, request),
    [Symbol.dispose]: () => {
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

/** All bytes of an answer. @throws Transient, the signal's reason, and what `tooLong` gives */
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

/** What a login is for is the server that was asked, and no other. */
function withoutLogin({ method, signal, headers = {} }: HttpRequest): HttpRequest {
  const kept = Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization');
  return { method: method === 'POST' ? 'GET' : method, signal, headers: Object.fromEntries(kept) };
}

/** A URL without user and password: what others may see. */
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
    // The bytes as they lie on the server: sizes, ranges and hashes are theirs.
    headers: { 'User-Agent': options.userAgent, Accept: '*/*', 'Accept-Encoding': 'identity', ...own, ...request.headers },
  };
  const message = url.protocol === 'https:' ? requestHttps(url, details) : requestHttp(url, details);
  const limitMs = options.silenceLimitMs ?? SILENCE_LIMIT_MS;
  message.setTimeout(limitMs, () => message.destroy(new Error(`no byte came for ${limitMs / 1000} s`)));
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
    // After HEAD nothing follows, and the connection can be used again.
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

/** Where a redirect leads. A scheme that hides nothing does not follow one that does. */
function redirected(from: URL, location: string, redirects: number): URL {
  const to = URL.parse(location, from.href);
  const refusal =
    redirects >= REDIRECT_LIMIT
      ? `more than ${REDIRECT_LIMIT} redirects`
      : to === null || !/^https?:$/.test(to.protocol)
        ? `a redirect to what is no web address: ${JSON.stringify(location.slice(0, 160))}`
        : from.protocol === 'https:' && to.protocol === 'http:'
          ? `a redirect from https to ${shown(to)}`
          : undefined;
  if (refusal === undefined && to !== null) return to;
  throw new PrestageError('ERR_FETCH_REFUSED', `${shown(from)} answers with ${refusal}`, 'Give the address that the files really have');
}

/** Failures of name resolution, TLS and the address itself do not pass by themselves; what else happens on the way may. */
const LASTING = /^(ENOTFOUND|ERR_TLS_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_SSL_|EPROTO|ERR_INVALID_|ERR_UNESCAPED_|HPE_)/;

function networkFault(url: URL, error: unknown): Error {
  if (error instanceof PrestageError || error instanceof Transient) return error;
  const code = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
  const reason = error instanceof Error && error.message !== '' ? error.message : code || String(error);
  const isTrust = /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS_|ERR_SSL_/.test(code);
  const fault = new PrestageError(
    'ERR_FETCH_NETWORK',
    `${shown(url)} cannot be fetched: ${reason}`,
    isTrust ? 'Give the certificate of the authority behind the server with --ca, or the name that its certificate has' : REMEDY,
    { cause: error },
  );
  return LASTING.test(code) ? fault : new Transient(fault);
}

const REMEDY = 'Check the address, the network and the server, then give the command again: what is there is kept';

/** What Node trusts, what the machine trusts, and what the caller gives. */
function trusted(ca: string | undefined): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...(ca === undefined ? [] : [ca])])];
}
