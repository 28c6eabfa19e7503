import type { Login } from './logins.ts';

/** The authentication that a registry demands. Source: RFC 9110, 11.6.1; distribution, docs/spec/auth/token.md. */
export type Challenge =
  | { readonly kind: 'basic' }
  | { readonly kind: 'bearer'; readonly realm: string; readonly service: string | undefined; readonly scope: string };

/** The request to a token server. */
export interface TokenRequest {
  readonly url: URL;
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly content?: string;
}

/**
 * Reads the challenge of a registry; undefined if its kind is not known. Pure.
 * @param header value of WWW-Authenticate
 */
export function readChallenge(header: string, repository: string): Challenge | undefined {
  const bearer = /(?:^|,)\s*bearer\s(.*)/i.exec(header)?.[1];
  if (bearer === undefined) return /(?:^|,)\s*basic(?:\s|$)/i.test(header) ? { kind: 'basic' } : undefined;
  const fields = new Map([...bearer.matchAll(/([a-z]+)="([^"]*)"/gi)].map(([, name = '', value = '']) => [name.toLowerCase(), value]));
  const realm = fields.get('realm');
  if (realm === undefined) return undefined;
  return { kind: 'bearer', realm, service: fields.get('service'), scope: fields.get('scope') ?? `repository:${repository}:pull` };
}

/** The value of Authorization for a password. Pure. */
export function basicLogin(login: Extract<Login, { user: string }>): string {
  return `Basic ${Buffer.from(`${login.user}:${login.password}`).toString('base64')}`;
}

/** The request for a token; undefined if the address of the token server is not valid. Pure. */
export function tokenRequest(challenge: Extract<Challenge, { kind: 'bearer' }>, login: Login | undefined): TokenRequest | undefined {
  const url = URL.parse(challenge.realm);
  if (url === null || !/^https?:$/.test(url.protocol)) return undefined;
  const { service, scope } = challenge;
  const fields = new URLSearchParams({ ...(service !== undefined && { service }), scope });
  if (login !== undefined && 'identityToken' in login) {
    for (const [name, value] of [
      ['grant_type', 'refresh_token'],
      ['refresh_token', login.identityToken],
      ['client_id', 'prestage-agent'],
    ] as const)
      fields.set(name, value);
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded', 'Content-Length': String(Buffer.byteLength(fields.toString())) };
    return { url, method: 'POST', headers, content: fields.toString() };
  }
  for (const [name, value] of fields) url.searchParams.append(name, value);
  return { url, method: 'GET', headers: login === undefined ? {} : { Authorization: basicLogin(login) } };
}
