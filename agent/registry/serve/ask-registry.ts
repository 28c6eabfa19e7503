import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';

/** Where a registry answers. */
export interface RegistryTarget {
  readonly host: string;
  readonly port: number;
  /** CAs, PEM, of a registry with TLS; empty for those that this machine trusts. If left out, it answers by plain HTTP. */
  readonly authority?: string;
  /** For one answer, to its last byte. */
  readonly timeoutMs: number;
}

/** What engines accept. Source: containers/image, manifest/manifest.go, DefaultRequestedManifestMIMETypes. */
const MANIFEST_TYPES = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];

/** What to ask a registry for. */
export interface Wanted {
  readonly repository: string;
  /** Tag or digest of a manifest, or digest of a blob. */
  readonly name: string;
  readonly kind: 'manifests' | 'blobs';
  readonly limitBytes: number;
}

/**
 * Reads one manifest or blob from a registry, as an engine does. Does not follow redirections, and sends no login.
 * @param wanted if its name is a digest, the bytes are checked against it
 * @returns undefined if the registry answers with 404
 * @throws PrestageError ERR_REGISTRY_START for any other answer, none in time, too many bytes, or bytes of another digest
 */
export async function askRegistry(
  target: RegistryTarget,
  wanted: Wanted,
): Promise<{ readonly digest: Digest; readonly bytes: Buffer } | undefined> {
  const { repository, kind, name } = wanted;
  const path = `/v2/${repository}/${kind}/${name}`;
  const bytes = await getBytes(target, path, wanted.limitBytes);
  if (bytes === undefined) return undefined;
  const digest = digestOf(bytes);
  if (name.startsWith('sha256:') && digest !== name) throw unusable(path, target, `it answers with bytes of ${digest}`);
  return { digest, bytes };
}

async function getBytes(target: RegistryTarget, path: string, limitBytes: number): Promise<Buffer | undefined> {
  const { host, port, authority, timeoutMs } = target;
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>();
  const options = { host, port, path, agent: false, headers: { accept: MANIFEST_TYPES.join(', ') } } as const;
  const request = authority === undefined ? requestPlain(options) : requestTls({ ...options, ca: authority || undefined });
  request.once('error', (error) => reject(unusable(path, target, error.message)));
  request.once('response', (response) => {
    const chunks: Buffer[] = [];
    let size = 0;
    response.once('error', (error) => reject(unusable(path, target, error.message)));
    response.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limitBytes) reject(unusable(path, target, `it answers with more than ${limitBytes} bytes`));
      else chunks.push(chunk);
    });
    response.once('end', () => {
      if (response.statusCode === 200) resolve(Buffer.concat(chunks));
      else if (response.statusCode === 404) resolve(undefined);
      else reject(unusable(path, target, `it answers with ${response.statusCode}`));
    });
  });
  const timer = setTimeout(() => reject(unusable(path, target, `no answer within ${timeoutMs} ms`)), timeoutMs);
  request.end();
  return await promise.finally(() => {
    clearTimeout(timer);
    request.destroy();
  });
}

function unusable(path: string, { host, port }: RegistryTarget, what: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRY_START',
    `${path} cannot be read from the registry at ${host}:${port}: ${what}`,
    'Look at its log: journalctl -u prestage-registry; then try again',
  );
}
