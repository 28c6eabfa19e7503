import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PrestageError } from '../../model/errors.ts';
import { reasonOf } from '../../model/system-error.ts';

/** How skopeo reaches the registries that images come from. */
export interface PullSource {
  /** Auth file, containers-auth.json(5); that of the user if left out. */
  readonly authFile?: string;
  /** Directory with `*.crt` to trust and `*.cert`, `*.key` to present, containers-certs.d(5). */
  readonly certDir?: string;
  /** A certificate to trust; not together with `certDir`. */
  readonly caFile?: string;
  /** False allows HTTP and unverified certificates. */
  readonly tlsVerify: boolean;
  /** URL of a proxy; that of the environment if left out. */
  readonly proxy?: string;
}

/**
 * The source with its certificate in a directory, as skopeo expects it.
 * @throws PrestageError ERR_USAGE
 */
export async function withCaDirectory({ caFile, ...source }: PullSource, scratch: string): Promise<PullSource> {
  if (caFile === undefined) return source;
  const certDir = join(scratch, 'certs');
  await mkdir(certDir, { recursive: true });
  await copyFile(caFile, join(certDir, 'ca.crt')).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_USAGE', `${caFile} cannot be read: ${reasonOf(cause)}`, 'Give the certificate of the registry', { cause });
  });
  return { ...source, certDir };
}

/** The flags of `skopeo inspect`. Source: skopeo-inspect(1). */
export function inspectFlags(source: PullSource): readonly string[] {
  return flags('--', source);
}

/** The flags of `skopeo copy`. Source: skopeo-copy(1). */
export function copyFlags(source: PullSource): readonly string[] {
  return flags('--src-', source);
}

/** Variables for skopeo's environment. Loopback is never asked through a proxy. Source: Go, net/http, ProxyFromEnvironment. */
export function sourceEnv(source: PullSource): Readonly<Record<string, string>> {
  return source.proxy === undefined ? {} : { HTTPS_PROXY: source.proxy, HTTP_PROXY: source.proxy };
}

function flags(prefix: '--' | '--src-', source: PullSource): readonly string[] {
  return [
    ...(source.authFile === undefined ? [] : [`${prefix}authfile`, source.authFile]),
    ...(source.certDir === undefined ? [] : [`${prefix}cert-dir`, source.certDir]),
    ...(source.tlsVerify ? [] : [`${prefix}tls-verify=false`]),
  ];
}
