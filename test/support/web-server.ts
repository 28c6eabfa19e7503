import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, request as requestHttp, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './registry.ts';

/** A web server on loopback. The lease ends it. */
export interface WebServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/` */
  readonly url: string;
  /** Requests so far: `GET /path`, with the range where one was asked for. */
  requests(): Promise<readonly string[]>;
}

const READY_LIMIT_MS = 15_000;

/** nginx with autoindex over a folder; its files lie apart. */
export async function startNginx(root: string): Promise<WebServer> {
  const work = await mkdtemp(join(tmpdir(), 'nginx-'));
  const port = await freePort();
  const log = join(work, 'access.log');
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${work}/${name};`).join(' ');
  await writeFile(
    join(work, 'nginx.conf'),
    // `user root`: the folders of tests are private to root.
    `daemon off; master_process off; user root; pid ${work}/pid; error_log ${work}/error.log; events {}
     http { ${temporary} log_format plain '$request_method $uri $http_range'; access_log ${log} plain;
       server { listen 127.0.0.1:${port}; root ${root}; autoindex on; } }`,
  );
  const child = spawn('nginx', ['-c', join(work, 'nginx.conf'), '-p', work, '-e', join(work, 'error.log')], { stdio: 'ignore' });
  return await served(child, port, { work, log });
}

/** Python's own web server over a folder: no ranges, no ETags, one connection for each request. */
export async function startPython(root: string): Promise<WebServer> {
  const work = await mkdtemp(join(tmpdir(), 'python-'));
  const port = await freePort();
  const log = join(work, 'access.log');
  // Sixth field of its log: "GET /path HTTP/1.1".
  const child = spawn(
    'sh',
    ['-c', 'exec python3 -m http.server "$1" --bind 127.0.0.1 --directory "$2" 2>"$3"', 'sh', String(port), root, log],
    {
      stdio: 'ignore',
    },
  );
  return await served(child, port, { work, log });
}

async function served(child: ChildProcess, port: number, files: { readonly work: string; readonly log: string }): Promise<WebServer> {
  const end = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await Promise.race([exited, sleep(5000)]);
      child.kill('SIGKILL');
    }
    await rm(files.work, { recursive: true, force: true });
  };
  for (const start = performance.now(); !(await listens(port)); await sleep(50)) {
    if (child.exitCode === null && performance.now() - start < READY_LIMIT_MS) continue;
    await end();
    throw new Error(`the web server did not start (exit code ${child.exitCode})`);
  }
  return {
    url: `http://127.0.0.1:${port}/`,
    requests: async () => {
      const lines = (await readFile(files.log, 'utf8')).split('\n').filter((line) => line !== '' && !/ code \d+, message /.test(line));
      return lines.map((line) => (/"(\S+ \S+) HTTP/.exec(line)?.[1] ?? line).replace(/ -$/, ''));
    },
    [Symbol.asyncDispose]: end,
  };
}

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    return await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error').then(() => false)]);
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** How a request fares instead of being answered well; `undefined` lets it pass. `nth` counts requests of the path with its method from 1. */
export type Fault = (request: {
  readonly method: string;
  readonly path: string;
  readonly nth: number;
  readonly range: string | undefined;
}) =>
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** Status 200 with this in place of the file. */
  | { readonly kind: 'body'; readonly body: string; readonly headers?: Readonly<Record<string, string>> }
  /** The whole length is announced, and the connection ends after so many bytes. */
  | { readonly kind: 'cut'; readonly bytes: number }
  /** So many bytes come, and then nothing more, without an end. */
  | { readonly kind: 'stall'; readonly bytes: number }
  /** No answer. */
  | { readonly kind: 'reset' }
  /** The file, named as another state of it. */
  | { readonly kind: 'etag'; readonly etag: string }
  /** The file as a whole, whatever range is asked for. */
  | { readonly kind: 'whole' }
  /** The bytes of the range, called other ones. */
  | { readonly kind: 'shifted' }
  | undefined;

/** A file server with ranges, ETags and index pages like nginx', and with faults. With `tls`, it serves HTTPS. */
export async function startFaultServer(
  root: string,
  fault: Fault,
  tls?: { readonly key: string; readonly cert: string },
): Promise<WebServer & { readonly seen: readonly IncomingMessage['headers'][] }> {
  const asked: string[] = [];
  const seen: IncomingMessage['headers'][] = [];
  const counts = new Map<string, number>();
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://host').pathname);
    const method = request.method ?? 'GET';
    const nth = (counts.get(`${method} ${path}`) ?? 0) + 1;
    counts.set(`${method} ${path}`, nth);
    const { range } = request.headers;
    asked.push(`${method} ${path}${range === undefined ? '' : ` ${range}`}`);
    seen.push(request.headers);
    void answer(root, { request, response, path, method }, fault({ method, path, nth, range })).catch(() => response.destroy());
  };
  const server = tls === undefined ? createServer(onRequest) : createTlsServer(tls, onRequest);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}/`,
    seen,
    requests: async () => [...asked],
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly path: string;
  readonly method: string;
}

async function answer(root: string, exchange: Exchange, fault: ReturnType<Fault>): Promise<void> {
  const { request, response, path, method } = exchange;
  if (fault?.kind === 'reset') return void request.socket.resetAndDestroy();
  if (fault?.kind === 'status') return void response.writeHead(fault.status, fault.headers).end('<html>error</html>');
  if (fault?.kind === 'body') {
    const headers = { 'content-length': Buffer.byteLength(fault.body), 'content-type': 'application/octet-stream', ...fault.headers };
    return void response.writeHead(200, headers).end(method === 'HEAD' ? undefined : fault.body);
  }
  const file = join(root, path);
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) return void response.writeHead(404, { 'content-type': 'text/html' }).end('<html>404</html>');
  if (found.isDirectory()) return await sendIndex(file, exchange);
  const etag =
    fault?.kind === 'etag' ? fault.etag : `"${createHash('sha256').update(`${found.size} ${found.mtimeMs}`).digest('hex').slice(0, 16)}"`;
  const condition = request.headers['if-range'];
  const from = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
  const isRange = from !== undefined && fault?.kind !== 'whole' && (condition === undefined || condition === etag);
  const start = isRange ? Number(from) : 0;
  if (isRange && start >= found.size) return void response.writeHead(416, { 'content-range': `bytes */${found.size}` }).end();
  const named = fault?.kind === 'shifted' ? start + 1 : start;
  response.writeHead(isRange ? 206 : 200, {
    'content-type': 'application/octet-stream',
    'content-length': found.size - start,
    'accept-ranges': 'bytes',
    'last-modified': found.mtime.toUTCString(),
    etag,
    ...(isRange && { 'content-range': `bytes ${named}-${found.size - 1}/${found.size}` }),
  });
  if (method === 'HEAD') return void response.end();
  let left = fault?.kind === 'cut' || fault?.kind === 'stall' ? fault.bytes : Number.POSITIVE_INFINITY;
  for await (const piece of createReadStream(file, { start })) {
    if (!Buffer.isBuffer(piece)) continue;
    if (!response.write(piece.subarray(0, left))) await once(response, 'drain');
    left -= piece.length;
    if (left <= 0 && fault?.kind === 'stall') return;
    // What was sent has to come through before the reset.
    if (left <= 0) return void setTimeout(() => request.socket.resetAndDestroy(), 100);
  }
  response.end();
}

async function sendIndex(directory: string, { response, path }: Exchange): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true });
  const links = entries.map((entry) => {
    const name = encodeURIComponent(entry.name) + (entry.isDirectory() ? '/' : '');
    return `<a href="${name}">${name}</a>\n`;
  });
  const page = `<html><head><title>Index of ${path}</title></head><body><a href="../">../</a>\n${links.join('')}</body></html>`;
  response.writeHead(200, { 'content-type': 'text/html', 'content-length': Buffer.byteLength(page) }).end(page);
}

/** A proxy that passes requests on, as RFC 9112, 3.2.2 (absolute-form) has it. */
export async function startForwardProxy(onRequest: (url: string) => void): Promise<Pick<WebServer, 'url'> & AsyncDisposable> {
  const server = createServer((request, response) => {
    onRequest(request.url ?? '');
    const passed = requestHttp(request.url ?? '', { method: request.method, headers: request.headers }, (found) => {
      response.writeHead(found.statusCode ?? 500, found.headers);
      found.pipe(response);
    });
    passed.on('error', () => response.destroy());
    request.pipe(passed);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
