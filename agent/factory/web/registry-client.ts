import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Host } from '../../host/host.ts';
import { PrestageError } from '../../model/errors.ts';
import { basicLogin, readChallenge, tokenRequest } from './challenge.ts';
import { bytesOf, createHttpClient, type HttpAnswer, type HttpClient, shown, Transient } from './http.ts';
import type { ImagePlace } from './image-places.ts';
import { findLogin } from './logins.ts';
import type { PullSource } from './source.ts';
import { httpOptions, readCertificates, statusError } from './source-http.ts';

/**
 * Sends requests to registries that skopeo has no command for, with the logins, certificates and proxies of the image transfer. Disposing of it
 * closes its connections. Source: OCI distribution-spec; distribution, docs/spec/auth.
 */
export interface RegistryClient extends Disposable {
  /**
   * Returns the answer if the registry has the content; undefined if it answers 404, MANIFEST_UNKNOWN or NAME_UNKNOWN.
   * @param path below the repository, or a full address at the same registry
   * @throws PrestageError ERR_PULL_*, ERR_FETCH_*; the signal's reason
   */
  get(place: ImagePlace, path: string, options: AskOptions): Promise<HttpAnswer | undefined>;
  /** All bytes of an answer. @throws PrestageError as `get`, and the error of `tooLong` */
  bytesOf(answer: HttpAnswer, limitBytes: number, tooLong: () => PrestageError): Promise<Buffer>;
  /** Passes on the bytes of an answer as they arrive. @throws errors of `take`, and PrestageError as `get` */
  each(answer: HttpAnswer, take: (piece: Buffer) => Promise<void>): Promise<void>;
}

export interface AskOptions {
  readonly method?: 'GET' | 'HEAD';
  /** Media types. */
  readonly accept?: string;
  /** Statuses that mean absent besides 404. */
  readonly absent?: readonly number[];
  readonly signal: AbortSignal;
}

/** Error documents of registries and answers of token servers have some KB. */
const SMALL_LIMIT_BYTES = 1024 * 1024;
const AGAIN = 'Pull again later: pulled blobs are kept';
const DOCKER_HUB = { name: 'docker.io', host: 'registry-1.docker.io' };
const errorsSchema = v.pipe(v.string(), v.parseJson(), v.object({ errors: v.array(v.object({ code: v.string() })) }));
const tokenSchema = v.pipe(v.string(), v.parseJson(), v.object({ token: v.optional(v.string()), access_token: v.optional(v.string()) }));
const UNKNOWN: readonly string[] = ['MANIFEST_UNKNOWN', 'NAME_UNKNOWN'];
const REFUSALS: readonly number[] = [401, 403, 429];

export function openRegistryClient(host: Pick<Host, 'env' | 'exec'>, source: PullSource): RegistryClient {
  const clients = new Map<string, Promise<HttpClient>>();
  const opened: HttpClient[] = [];
  const bases = new Map<string, Promise<URL>>();
  const logins = new Map<string, string>();
  const isUnverified = (place: ImagePlace): boolean => place.isInsecure || !source.tlsVerify;
  const clientFor = async (place: ImagePlace): Promise<HttpClient> => {
    const key = `${place.registry} ${isUnverified(place)}`;
    const found = clients.get(key) ?? newClient(place);
    clients.set(key, found);
    return await found;
  };
  const newClient = async (place: ImagePlace): Promise<HttpClient> => {
    const certificates = await readCertificates(source.certDir ?? certificateDirectory(host.env, place.registry));
    const client = createHttpClient({ ...httpOptions(host.env, source, certificates), isUnverified: isUnverified(place) });
    opened.push(client);
    return client;
  };
  /** Only a request shows whether an insecure registry uses TLS. */
  const baseOf = async (place: ImagePlace, signal: AbortSignal): Promise<URL> => {
    const address = place.registry === DOCKER_HUB.name ? DOCKER_HUB.host : place.registry;
    const secure = new URL(`https://${address}/v2/`);
    if (!isUnverified(place)) return secure;
    const found = bases.get(address) ?? firstAnswering(await clientFor(place), [secure, new URL(`http://${address}/v2/`)], signal);
    bases.set(address, found);
    return await found.catch((error: unknown) => {
      bases.delete(address);
      throw error;
    });
  };
  const ask = async (place: ImagePlace, url: URL, { method = 'GET', accept = '*/*', signal }: AskOptions): Promise<HttpAnswer> => {
    const client = await clientFor(place);
    const send = async (): Promise<HttpAnswer> => {
      const login = logins.get(place.name);
      return await client.ask(url, { method, signal, headers: { Accept: accept, ...(login !== undefined && { Authorization: login }) } });
    };
    const first = await send();
    const challenge = first.status === 401 ? readChallenge(first.header('www-authenticate') ?? '', place.repository) : undefined;
    if (challenge === undefined) return first;
    const login = await findLogin(place.name, { ...host, authFile: source.authFile });
    const value = challenge.kind === 'bearer' ? await tokenOf(client, tokenRequest(challenge, login), signal) : passwordOf(login);
    if (value === undefined) return first;
    first.drop();
    logins.set(place.name, value);
    return await send();
  };
  return {
    get: async (place, path, options) =>
      await passing(async () => {
        const base = await baseOf(place, options.signal);
        const url = /^https?:/.test(path) ? new URL(path) : new URL(`${place.repository}/${path}`, base);
        if (url.origin !== base.origin) throw new PrestageError('ERR_PULL', `${shown(base)} leads to another server, ${shown(url)}`, AGAIN);
        const answer = await ask(place, url, options);
        if (answer.status === 200) return answer;
        if (answer.status === 404 || options.absent?.includes(answer.status) || (await saysUnknown(answer))) {
          answer.drop();
          return undefined;
        }
        answer.drop();
        throw statusError(answer.url, answer.status, AGAIN);
      }),
    bytesOf: async (answer, limitBytes, tooLong) => await passing(async () => await bytesOf(answer, limitBytes, tooLong)),
    each: async (answer, take) =>
      await passing(async () => {
        for await (const piece of answer.body()) await take(piece);
      }),
    [Symbol.dispose]: () => {
      for (const client of opened) client[Symbol.dispose]();
    },
  };
}

/** Reports every temporary failure of the connection with one code. */
async function passing<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Transient)) throw error;
    throw new PrestageError('ERR_PULL_NETWORK', error.error.message, AGAIN, { cause: error });
  }
}

async function firstAnswering(client: HttpClient, [url, ...others]: readonly URL[], signal: AbortSignal): Promise<URL> {
  if (url === undefined) throw new PrestageError('ERR_INTERNAL', 'a registry has no address', 'Report this as a bug');
  try {
    const answer = await client.ask(url, { method: 'GET', signal });
    answer.drop();
    return url;
  } catch (error) {
    signal.throwIfAborted();
    if (others.length === 0) throw error;
    return await firstAnswering(client, others, signal);
  }
}

function passwordOf(login: Awaited<ReturnType<typeof findLogin>>): string | undefined {
  return login !== undefined && 'user' in login ? basicLogin(login) : undefined;
}

async function tokenOf(client: HttpClient, request: ReturnType<typeof tokenRequest>, signal: AbortSignal): Promise<string | undefined> {
  if (request === undefined) return undefined;
  const answer = await client.ask(request.url, { ...request, signal });
  if (answer.status !== 200) {
    answer.drop();
    throw statusError(request.url, answer.status, 'Log in with skopeo login REGISTRY, or give --authfile');
  }
  const tooLong = (): PrestageError => new PrestageError('ERR_PULL', `${shown(request.url)} sends a token of more than 1 MiB`, AGAIN);
  const parsed = v.safeParse(tokenSchema, (await bytesOf(answer, SMALL_LIMIT_BYTES, tooLong)).toString('utf8'));
  const token = parsed.success ? (parsed.output.token ?? parsed.output.access_token) : undefined;
  return token === undefined ? undefined : `Bearer ${token}`;
}

/** Some registries report a missing manifest with another status than 404. */
async function saysUnknown(answer: HttpAnswer): Promise<boolean> {
  if (answer.status < 400 || answer.status >= 500 || REFUSALS.includes(answer.status)) return false;
  const text = await bytesOf(answer, SMALL_LIMIT_BYTES, () => new PrestageError('ERR_PULL', 'too long', AGAIN)).catch(() =>
    Buffer.alloc(0),
  );
  const parsed = v.safeParse(errorsSchema, text.toString('utf8'));
  return parsed.success && parsed.output.errors.some(({ code }) => UNKNOWN.includes(code));
}

/** Source: containers-certs.d(5). */
function certificateDirectory({ HOME: home = '/root' }: Host['env'], registry: string): string | undefined {
  const places = [join(home, '.config/containers/certs.d'), '/etc/containers/certs.d', '/etc/docker/certs.d'];
  return places.map((place) => join(place, registry)).find((place) => existsSync(place));
}
