import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ifMissing } from '../../host/files.ts';
import { type ErrorCode, PrestageError } from '../../model/errors.ts';
import { type HttpOptions, shown } from './http.ts';
import type { PullSource } from './source.ts';

/** The contents of a directory of certificates, PEM. Source: containers-certs.d(5). */
export type Certificates = Pick<HttpOptions, 'ca' | 'identity'>;

const STATUS_CODES: ReadonlyMap<number, ErrorCode> = new Map([
  [401, 'ERR_PULL_LOGIN'],
  [403, 'ERR_PULL_DENIED'],
  [429, 'ERR_PULL_LIMIT'],
]);

/** Options for requests that skopeo does not make: the proxies and certificates of the image transfer. Pure. */
export function httpOptions(env: HttpOptions['env'], { proxy }: PullSource, certificates: Certificates): HttpOptions {
  const proxies = proxy === undefined ? {} : { HTTPS_PROXY: proxy, HTTP_PROXY: proxy, https_proxy: proxy, http_proxy: proxy };
  const direct = [env.no_proxy ?? env.NO_PROXY ?? '', 'localhost', '127.0.0.1', '[::1]'].filter((one) => one !== '').join(',');
  return {
    headers: {},
    origin: '',
    ...certificates,
    // As with skopeo, loopback is never asked through a proxy.
    env: { ...env, ...proxies, no_proxy: direct, NO_PROXY: direct },
    userAgent: 'prestage-agent',
  };
}

/** `*.crt` are trusted; the first `*.cert` with a `*.key` of its name is presented. A missing directory has none. */
export async function readCertificates(directory: string | undefined): Promise<Certificates> {
  const names = directory === undefined ? [] : (await readdir(directory).catch(ifMissing((): string[] => []))).toSorted();
  const read = async (name: string): Promise<string> => await readFile(join(directory ?? '', name), 'utf8');
  const authorities = await Promise.all(names.filter((name) => name.endsWith('.crt')).map(read));
  const shownName = names.find((name) => name.endsWith('.cert') && names.includes(keyOf(name)));
  return {
    ca: authorities.length === 0 ? undefined : authorities.join('\n'),
    ...(shownName !== undefined && { identity: { cert: await read(shownName), key: await read(keyOf(shownName)) } }),
  };
}

/** The error for a status other than those that mean absent. Pure. */
export function statusError(url: URL, status: number, remedy: string): PrestageError {
  const code = STATUS_CODES.get(status) ?? (status >= 500 ? 'ERR_PULL_SERVER' : 'ERR_PULL');
  return new PrestageError(code, `${shown(url)} returned status ${status}`, remedy);
}

function keyOf(certificate: string): string {
  return certificate.replace(/\.cert$/, '.key');
}
