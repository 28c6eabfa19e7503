import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { type Digest, hexOf } from '../../agent/model/digest.ts';
import { parseReference } from '../../agent/model/reference.ts';
import { blobPath } from './image-layer.ts';
import { blobsOf, type MadeImage } from './images.ts';

export interface RegistryOptions {
  /** Serve HTTPS with a certificate that nobody knows but `caFile`. */
  readonly tls?: boolean;
  /** Ask for the user and password of `authFile`. */
  readonly password?: boolean;
  /** Whether clients can push; they cannot if left out. */
  readonly isWritable?: boolean;
  /** Where its files lie; on the file system of the blobs they cost no space. The temporary directory where left out. */
  readonly near?: string;
}

/** A distribution registry on loopback that serves images read-only. The lease ends it and removes its files. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** The certificate to trust, where it serves HTTPS. */
  readonly caFile: string;
  /** Login for it, as containers-auth.json(5). */
  readonly authFile: string;
  /** The registry's own files. */
  readonly root: string;
  /** Adds images, whose references then start with its host, and gives those references. */
  add(store: string, images: readonly MadeImage[]): Promise<readonly string[]>;
  /** Where a blob lies in its files, to damage it. */
  blobFile(digest: Digest): string;
  /** The lines that it logged. */
  log(): string;
}

const USER = 'factory';
const PASSWORD = 'a password with : and @';
/** Of PASSWORD, by crypt(5), prefix $2y$: distribution takes no other method. */
const PASSWORD_HASH = '$2y$05$abcdefghijklmnopqrstuuWBCbV.GT90k8g3PGcpPb5u4.T4Kb5Wm';
const READY_LIMIT_MS = 20_000;

/** Starts a registry and waits until it answers. */
export async function startRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const work = await mkdtemp(join(options.near ?? tmpdir(), 'registry-'));
  const root = join(work, 'root');
  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const caFile = join(work, 'ca.crt');
  const authFile = join(work, 'auth.json');
  if (options.tls) await makeCertificate(work);
  if (options.password) await writeFile(join(work, 'htpasswd'), `${USER}:${PASSWORD_HASH}\n`);
  await writeFile(authFile, JSON.stringify({ auths: { [host]: { auth: Buffer.from(`${USER}:${PASSWORD}`).toString('base64') } } }));
  await writeFile(join(work, 'config.yml'), JSON.stringify(configOf(work, host, options)));
  const program = (await execOnLinux('which', ['docker-registry'])).exitCode === 0 ? 'docker-registry' : 'registry';
  const child = spawn(program, ['serve', join(work, 'config.yml')], { stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const end = async (): Promise<void> => {
    await endProcess(child);
    await rm(work, { recursive: true, force: true });
  };
  try {
    await untilReady(child, `${options.tls ? 'https' : 'http'}://${host}/v2/`);
  } catch (error) {
    await end();
    throw new Error(`${program} did not start:\n${log}`, { cause: error });
  }
  return {
    host,
    port,
    pid: child.pid ?? 0,
    caFile,
    authFile,
    root,
    add: async (store, images) => {
      await writeRegistryTree(store, root, images);
      return images.map(({ reference }) => localReference(host, reference));
    },
    blobFile: (digest) => blobFile(root, digest),
    log: () => log,
    [Symbol.asyncDispose]: end,
  };
}

/** A reference as it is in the registry of this host. */
export function localReference(host: string, reference: string): string {
  const { registry } = parseReference(reference);
  return `${host}${reference.slice(registry.length)}`;
}

/** A TCP port of loopback that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('loopback gave no port');
  return address.port;
}

/** A self-signed certificate for 127.0.0.1: `ca.crt` and `ca.key`. */
async function makeCertificate(directory: string): Promise<void> {
  const [key, certificate] = [join(directory, 'ca.key'), join(directory, 'ca.crt')];
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'];
  const names = ['-subj', '/CN=prestage test', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:registry.example.com'];
  await output(execOnLinux, 'openssl', [...request, ...names, '-keyout', key, '-out', certificate]);
}

/** YAML is a superset of JSON. Source: distribution, docs/configuration.md. */
function configOf(work: string, host: string, options: RegistryOptions): unknown {
  return {
    version: 0.1,
    log: { level: 'info' },
    storage: { filesystem: { rootdirectory: join(work, 'root') }, maintenance: { readonly: { enabled: options.isWritable !== true } } },
    http: {
      addr: host,
      secret: 'for tests',
      ...(options.tls && { tls: { certificate: join(work, 'ca.crt'), key: join(work, 'ca.key') } }),
    },
    ...(options.password && { auth: { htpasswd: { realm: 'test', path: join(work, 'htpasswd') } } }),
  };
}

/**
 * Puts images into a registry's files by the paths of their repositories. Blobs are reflinks if the file system allows it: a push would copy some GB.
 * Source: distribution, registry/storage/paths.go.
 */
export async function writeRegistryTree(store: string, root: string, images: readonly MadeImage[]): Promise<void> {
  for (const image of images) {
    const { repository, tag } = parseReference(image.reference);
    const home = join(root, 'docker/registry/v2/repositories', repository);
    const manifests = new Set([image.digest, ...image.instances.map(({ manifest }) => manifest.digest)]);
    const layers = blobsOf(image).map(({ digest }) => digest);
    for (const digest of [...manifests, ...layers]) await placeBlob(store, root, digest);
    for (const digest of layers) await writeLink(join(home, '_layers/sha256', hexOf(digest)), digest);
    for (const digest of manifests) await writeLink(join(home, '_manifests/revisions/sha256', hexOf(digest)), digest);
    if (tag !== undefined) {
      await writeLink(join(home, '_manifests/tags', tag, 'current'), image.digest);
      await writeLink(join(home, '_manifests/tags', tag, 'index/sha256', hexOf(image.digest)), image.digest);
    }
  }
}

async function placeBlob(store: string, root: string, digest: Digest): Promise<void> {
  const to = blobFile(root, digest);
  await mkdir(dirname(to), { recursive: true });
  await copyFile(blobPath(store, digest), to, constants.COPYFILE_FICLONE);
}

async function writeLink(directory: string, digest: Digest): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'link'), digest);
}

function blobFile(root: string, digest: Digest): string {
  const hex = hexOf(digest);
  return join(root, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
}

async function untilReady(child: ChildProcess, url: string): Promise<void> {
  for (const start = performance.now(); ; await sleep(50)) {
    if (await answers(url)) return;
    if (child.exitCode !== null || child.pid === undefined) throw new Error(`it ended with ${child.exitCode}`);
    if (performance.now() - start > READY_LIMIT_MS) throw new Error(`it did not answer within ${READY_LIMIT_MS / 1000} s`);
  }
}

async function answers(url: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  // Whether it is the right server is what the tests are about; here it only has to be there.
  const request = url.startsWith('https') ? requestTls(url, { rejectUnauthorized: false }) : requestPlain(url);
  request.once('response', (response) => {
    response.resume();
    resolve(true);
  });
  request.once('error', () => resolve(false));
  request.setTimeout(1000, () => request.destroy(new Error('no answer')));
  request.end();
  return await promise;
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  await exited;
}
