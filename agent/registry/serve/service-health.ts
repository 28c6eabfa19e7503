import { X509Certificate } from 'node:crypto';
import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import { TLSSocket } from 'node:tls';
import { messageOf } from '../../model/errors.ts';
import type { Listener } from './service-listener.ts';

export interface Health {
  readonly healthy: boolean;
  /** In words, for people. */
  readonly reason: string;
  /** Who listens on its address, if that was checked. */
  readonly listener?: Listener;
}

export interface Probe {
  readonly host: string;
  readonly port: number;
  /** The certificate, PEM, that the registry was given; if left out, it answers by plain HTTP. */
  readonly certificate?: string | undefined;
  /** If its own certificate is not known: CAs, PEM, by one of which it must be signed; empty for those that this machine trusts. */
  readonly authority?: string | undefined;
  readonly timeoutMs: number;
}

/** The health once it is known who listens: an answer counts only if our registry listens there. Pure. */
export function provenHealth(answer: Health, listener: Listener): Health {
  switch (listener.kind) {
    case 'ours':
      return { ...answer, listener };
    case 'other':
      return { healthy: false, reason: `another program listens there: ${listener.who}`, listener };
    case 'unseen':
      return { healthy: false, reason: listener.reason, listener };
    case 'nobody':
      return { healthy: false, reason: answer.healthy ? 'it answered, and ended' : answer.reason, listener };
  }
}

/**
 * Checks that a registry answers: `GET /v2/` gives 200 and names the protocol. With TLS, the server must show exactly the certificate that our registry
 * was given, so its CA is not needed here.
 * Source: distribution, docs/spec/api.md, "API Version Check".
 */
export async function probeRegistry({ host, port, certificate, authority, timeoutMs }: Probe): Promise<Health> {
  const { promise, resolve } = Promise.withResolvers<Health>();
  const unhealthy = (reason: string): void => resolve({ healthy: false, reason });
  const target = { host, port, path: '/v2/', agent: false } as const;
  // If the certificate is known, it is compared itself.
  const trust = certificate === undefined ? { ca: authority || undefined } : { rejectUnauthorized: false };
  const request = certificate === undefined && authority === undefined ? requestPlain(target) : requestTls({ ...target, ...trust });
  request.once('response', (response) => {
    response.resume();
    const protocol = response.headers['docker-distribution-api-version'];
    if (response.statusCode !== 200 || protocol !== 'registry/2.0') {
      return unhealthy(`GET /v2/ answers with ${response.statusCode}: that is not a registry`);
    }
    if (certificate !== undefined && !(response.socket instanceof TLSSocket && showsCertificate(response.socket, certificate))) {
      return unhealthy('the server shows a certificate that is not the one of the registry');
    }
    resolve({ healthy: true, reason: 'GET /v2/ answers' });
  });
  request.once('error', (error) => unhealthy(`GET /v2/ fails: ${messageOf(error)}`));
  const timer = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  request.end();
  return await promise.finally(() => {
    clearTimeout(timer);
    request.destroy();
  });
}

/** A file of several certificates begins with the server's own (RFC 8446, 4.4.2). */
function showsCertificate(socket: TLSSocket, pem: string): boolean {
  const shown = socket.getPeerX509Certificate();
  try {
    return shown?.raw.equals(new X509Certificate(pem).raw) ?? false;
  } catch {
    return false;
  }
}
