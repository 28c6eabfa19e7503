import { once } from 'node:events';
import { createServer, type IncomingMessage, request as requestFrom, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a proxy does to an answer of the registry behind it. */
export type Fault =
  /** Answers with a status instead. */
  | { readonly kind: 'status'; readonly status: number }
  /** Answers what the registry itself has no call for. */
  | { readonly kind: 'answer'; readonly headers: Readonly<Record<string, string>>; readonly body: string }
  /** Resets the connection instead of an answer. */
  | { readonly kind: 'reset' }
  /** Gives some bytes of the body and ends the connection. */
  | { readonly kind: 'truncate'; readonly bytes: number }
  /** Gives some bytes of the body and claims that these are all. */
  | { readonly kind: 'shorten'; readonly bytes: number }
  /** Changes a byte of the body. */
  | { readonly kind: 'corrupt' }
  /** Gives some bytes of the body and then nothing for a time. */
  | { readonly kind: 'stall'; readonly bytes: number; readonly ms: number };

export interface FaultRule {
  /** Which requests, by method and path: `GET /v2/a/b/blobs/sha256:…`. */
  readonly on: RegExp;
  /** How many of them; all where left out. */
  readonly times?: number;
  readonly fault: Fault;
}

/** A proxy in front of a registry, that is a registry itself for who asks it. */
export interface FaultProxy extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  /** Every request, as `METHOD path`. */
  readonly requests: readonly string[];
  /** Replaces the rules; the first that fits a request counts. */
  set(rules: readonly FaultRule[]): void;
}

/** Starts a proxy in front of `127.0.0.1:PORT`, without TLS. */
export async function startFaultProxy(port: number): Promise<FaultProxy> {
  let left: { rule: FaultRule; times: number }[] = [];
  const requests: string[] = [];
  const stopped = new AbortController();
  const server = createServer((request, response) => {
    const line = `${request.method} ${request.url}`;
    requests.push(line);
    const found = left.find(({ rule, times }) => times > 0 && rule.on.test(line));
    if (found !== undefined) found.times--;
    // A skopeo that ends in the middle of an answer is part of the game.
    pass({ port, request, response, fault: found?.rule.fault, stop: stopped.signal }).catch(() => response.destroy());
  });
  return {
    host: await listen(server),
    requests,
    set: (rules) => {
      left = rules.map((rule) => ({ rule, times: rule.times ?? Number.POSITIVE_INFINITY }));
    },
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await end(server);
    },
  };
}

/** A proxy for HTTPS that leads every name to one port of loopback. Source: RFC 9110, section 9.3.6, CONNECT. */
export async function startConnectProxy(
  port: number,
): Promise<AsyncDisposable & { readonly url: string; readonly asked: readonly string[] }> {
  const asked: string[] = [];
  const tunnels = new Set<Duplex>();
  const server = createServer((_request, response) => response.writeHead(405).end());
  server.on('connect', (request: IncomingMessage, client: Duplex) => {
    asked.push(request.url ?? '');
    tunnels.add(client);
    const upstream = connect(port, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.pipe(client);
      client.pipe(upstream);
    });
    upstream.on('error', () => client.destroy());
    client.on('error', () => upstream.destroy());
  });
  return {
    url: `http://${await listen(server)}`,
    asked,
    [Symbol.asyncDispose]: async () => {
      // A tunnel is no connection of the server any more.
      for (const client of tunnels) client.destroy();
      await end(server);
    },
  };
}

interface Passing {
  readonly port: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly fault: Fault | undefined;
  readonly stop: AbortSignal;
}

async function pass({ port, request, response, fault, stop }: Passing): Promise<void> {
  request.resume();
  if (fault?.kind === 'status') {
    response.writeHead(fault.status, { 'content-type': 'text/plain' }).end('injected');
    return;
  }
  if (fault?.kind === 'answer') {
    response.writeHead(200, fault.headers).end(fault.body);
    return;
  }
  if (fault?.kind === 'reset') {
    request.socket.resetAndDestroy();
    return;
  }
  const asked = requestFrom({ host: '127.0.0.1', port, method: request.method, path: request.url, headers: request.headers });
  asked.end();
  const [answer]: IncomingMessage[] = await once(asked, 'response');
  if (answer === undefined) throw new Error('the registry gave no answer');
  const headers = fault?.kind === 'shorten' ? { ...answer.headers, 'content-length': String(fault.bytes) } : answer.headers;
  response.writeHead(answer.statusCode ?? 502, headers);
  let given = 0;
  for await (const chunk of answer) {
    if (!Buffer.isBuffer(chunk)) continue;
    const limit = fault !== undefined && 'bytes' in fault ? fault.bytes : Number.POSITIVE_INFINITY;
    const piece = chunk.subarray(0, Math.max(0, limit - given));
    if (fault?.kind === 'corrupt' && given === 0 && piece[0] !== undefined) piece[piece.length - 1] = (piece.at(-1) ?? 0) ^ 1;
    response.write(piece);
    given += piece.length;
    if (given < limit) continue;
    if (fault?.kind === 'stall') await sleep(fault.ms, undefined, { signal: stop });
    if (fault?.kind === 'shorten') response.end();
    else response.destroy();
    answer.destroy();
    return;
  }
  response.end();
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

async function end(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}
