import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { writeAtomic } from '../../host/atomic.ts';
import { type Digest, digestOf, isDigest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../../model/manifest.ts';
import type { BlobStore, IncomingBlob } from '../shared/blob-store.ts';
import { type Claims, createClaims } from '../shared/claims.ts';
import type { ResolvedImage } from './resolve.ts';

/**
 * Receives images from skopeo: a destination that accepts every manifest type unchanged and knows which blobs are there already. (`oci:`
 * refuses Docker's types under `--preserve-digests`, and `dir:` fetches shared layers once for each image.) It is the push side of the
 * distribution protocol on loopback, only for the skopeo processes of one pull.
 * Measured over the 24 images of the bench, two at a time on 2 cores: see test/bench/pull.ts.
 * Source: OCI distribution-spec, "Push"; what skopeo 1.9.3 asks for (containers/image, docker/docker_image_dest.go).
 */
export interface Receiver extends AsyncDisposable {
  /** Opens a session in which one skopeo pushes one image. */
  open(image: ResolvedImage, onBytes: (bytes: number) => void): Promise<Session>;
}

/** The image that one skopeo may push. Closing the session frees the blobs that it has not pushed. */
export interface Session extends AsyncDisposable {
  /** skopeo's name of the destination. */
  readonly destination: string;
  /** The login for it, containers-auth.json(5). */
  readonly authFile: string;
  /** A fault on this side; skopeo only sees a status. */
  readonly fault: PrestageError | undefined;
  /** When the last byte arrived, or another image's blob that this one waited for, by performance.now(). */
  readonly activeMs: number;
}

interface State {
  readonly store: BlobStore;
  readonly claims: Claims<OpenSession>;
  /** By the user name of their login, which is secret. */
  readonly sessions: Map<string, OpenSession>;
  readonly uploads: Map<string, IncomingBlob>;
}

interface OpenSession {
  readonly reference: string;
  readonly manifests: ReadonlySet<Digest>;
  readonly blobs: ReadonlyMap<Digest, number>;
  /** No blob of the image is larger. */
  readonly limitBytes: number;
  readonly onBytes: (bytes: number) => void;
  fault: PrestageError | undefined;
  activeMs: number;
  waiting: number;
}

/** All images go to one repository, so that skopeo looks for blobs in no other; the login tells them apart. */
const REPOSITORY = 'pull';
const BLOB = new RegExp(`^/v2/${REPOSITORY}/blobs/(sha256:[0-9a-f]{64})$`);
const UPLOAD = new RegExp(`^/v2/${REPOSITORY}/blobs/uploads/([0-9a-f]*)$`);
const MANIFEST = new RegExp(`^/v2/${REPOSITORY}/manifests/[^/]+$`);

/**
 * Starts listening on loopback.
 * @param scratch directory for logins, private to this user
 */
export async function startReceiver(store: BlobStore, scratch: string): Promise<Receiver> {
  const state: State = { store, claims: createClaims((digest) => store.has(digest)), sessions: new Map(), uploads: new Map() };
  // No time limits: a layer of some GB arrives as slowly as the network delivers it.
  const server = createServer({ requestTimeout: 0, keepAliveTimeout: 600_000 }, (request, response) => {
    void answer(state, request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const host = `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  return {
    open: async (image, onBytes) => await openSession({ state, host, scratch }, image, onBytes),
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
      for (const upload of state.uploads.values()) await upload.drop();
    },
  };
}

async function openSession(
  at: { readonly state: State; readonly host: string; readonly scratch: string },
  image: ResolvedImage,
  onBytes: (bytes: number) => void,
): Promise<Session> {
  const user = randomBytes(16).toString('hex');
  const authFile = join(at.scratch, `login-${user}.json`);
  const session: OpenSession = {
    reference: image.listed.text,
    manifests: new Set(image.manifests.map(({ digest }) => digest)),
    blobs: new Map(image.blobs.map(({ digest, sizeBytes }) => [digest, sizeBytes])),
    limitBytes: Math.max(0, ...image.blobs.map(({ sizeBytes }) => sizeBytes)),
    onBytes,
    fault: undefined,
    activeMs: performance.now(),
    waiting: 0,
  };
  await writeAtomic(authFile, JSON.stringify({ auths: { [at.host]: { auth: Buffer.from(`${user}:x`).toString('base64') } } }), 0o600);
  at.state.sessions.set(user, session);
  return {
    destination: `docker://${at.host}/${REPOSITORY}:image`,
    authFile,
    get fault() {
      return session.fault;
    },
    get activeMs() {
      return session.waiting > 0 ? performance.now() : session.activeMs;
    },
    [Symbol.asyncDispose]: async () => {
      at.state.sessions.delete(user);
      at.state.claims.release(session);
      await rm(authFile, { force: true });
    },
  };
}

async function answer(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const session = state.sessions.get(userOf(request));
  if (session === undefined) return reply(response, 401, { 'www-authenticate': 'Basic realm="pull"' });
  session.activeMs = performance.now();
  try {
    await route(state, session, request, response);
  } catch (error) {
    // Any other error means that skopeo ended in the middle of a blob: its exit code says why.
    if (error instanceof PrestageError) session.fault ??= error;
    reply(response, 507);
  }
}

async function route(state: State, session: OpenSession, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://loopback');
  const blob = BLOB.exec(pathname)?.[1] ?? '';
  const upload = UPLOAD.exec(pathname)?.[1];
  if (request.method === 'GET' && pathname === '/v2/') return reply(response, 200);
  if (request.method === 'HEAD' && isDigest(blob)) return await answerHead(state, session, blob, response);
  if (request.method === 'POST' && upload === '') return await startUpload(state, response);
  if (request.method === 'PATCH' && upload !== undefined) return await takeBytes(state, session, upload, request, response);
  if (request.method === 'PUT' && upload !== undefined)
    return await finishUpload({ state, session, response }, upload, searchParams.get('digest') ?? '');
  if (request.method === 'PUT' && MANIFEST.test(pathname)) return await takeManifest(session, request, response);
  return reply(response, 404);
}

/** Answers whether a blob is there. "No" makes skopeo push it, so only one skopeo at a time gets that answer. */
async function answerHead(state: State, session: OpenSession, digest: Digest, response: ServerResponse): Promise<void> {
  session.waiting++;
  const isClaimed = await state.claims.claim(digest, session).finally(() => session.waiting--);
  session.activeMs = performance.now();
  if (isClaimed || !state.store.has(digest)) return reply(response, 404);
  const sizeBytes = session.blobs.get(digest) ?? 0;
  reply(response, 200, { 'content-length': String(sizeBytes), 'docker-content-digest': digest });
}

async function startUpload(state: State, response: ServerResponse): Promise<void> {
  const id = randomBytes(16).toString('hex');
  state.uploads.set(id, await state.store.receive());
  reply(response, 202, { location: `/v2/${REPOSITORY}/blobs/uploads/${id}`, range: '0-0', 'docker-upload-uuid': id });
}

async function takeBytes(
  state: State,
  session: OpenSession,
  id: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const upload = state.uploads.get(id);
  if (upload === undefined) return reply(response, 404);
  let sizeBytes = 0;
  try {
    for await (const bytes of chunksOf(request)) {
      sizeBytes += bytes.length;
      if (sizeBytes > session.limitBytes) throw tooLong(session);
      await upload.write(bytes);
      session.activeMs = performance.now();
      session.onBytes(bytes.length);
    }
  } catch (error) {
    state.uploads.delete(id);
    await upload.drop();
    throw error;
  }
  reply(response, 202, { location: `/v2/${REPOSITORY}/blobs/uploads/${id}`, range: `0-${Math.max(0, sizeBytes - 1)}` });
}

interface Exchange {
  readonly state: State;
  readonly session: OpenSession;
  readonly response: ServerResponse;
}

async function finishUpload({ state, session, response }: Exchange, id: string, digest: string): Promise<void> {
  const upload = state.uploads.get(id);
  state.uploads.delete(id);
  if (upload === undefined) return reply(response, 404);
  if (!isDigest(digest) || !session.blobs.has(digest)) {
    await upload.drop();
    return reply(response, 400);
  }
  // skopeo has checked the digest, too; here the blob gets its name by it.
  if ((await upload.finish(digest)) !== digest) return reply(response, 400);
  state.claims.fulfil(digest);
  reply(response, 201, { location: `/v2/${REPOSITORY}/blobs/${digest}`, 'docker-content-digest': digest });
}

/** The manifests are known already: skopeo must push the same ones. */
async function takeManifest(session: OpenSession, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const bytes of chunksOf(request)) {
    sizeBytes += bytes.length;
    if (sizeBytes > MANIFEST_LIMIT_BYTES) return reply(response, 413);
    chunks.push(bytes);
  }
  const digest = digestOf(Buffer.concat(chunks));
  reply(response, session.manifests.has(digest) ? 201 : 400, { 'docker-content-digest': digest });
}

async function* chunksOf(request: IncomingMessage): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of request) if (Buffer.isBuffer(chunk)) yield chunk;
}

function tooLong(session: OpenSession): PrestageError {
  return new PrestageError(
    'ERR_PULL_DIGEST',
    `${session.reference}: the registry sends a blob of more than ${session.limitBytes} bytes, the largest size in its manifests`,
    'Check for a proxy that changes data on its way from the registry, then pull again',
  );
}

function userOf(request: IncomingMessage): string {
  const encoded = /^Basic ([A-Za-z0-9+/=]+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  return Buffer.from(encoded, 'base64').toString('latin1').split(':', 1)[0] ?? '';
}

function reply(response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}): void {
  if (response.headersSent) return;
  response.writeHead(status, headers).end();
}
