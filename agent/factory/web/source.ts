import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PrestageError } from '../../model/errors.ts';

/** How skopeo reaches the registries that images come from. */
export interface PullSource {
  /** Logins, containers-auth.json(5); the one of the user where left out. */
  readonly authFile?: string;
  /** Directory with `*.crt` to trust and `*.cert`, `*.key` to show, containers-certs.d(5). */
  readonly certDir?: string;
  /** A certificate to trust; where it is given there is no `certDir`. */
  readonly caFile?: string;
  /** False takes HTTP, and certificates that nobody vouches for. */
  readonly tlsVerify: boolean;
  /** URL of a proxy; that of the environment where left out. */
  readonly proxy?: string;
}

/**
 * The source with its certificate in a directory, as skopeo wants it.
 * @throws PrestageError ERR_USAGE
 */
export async function withCaDirectory({ caFile, ...source }: PullSource, scratch: string): Promise<PullSource> {
  if (caFile === undefined) return source;
  const certDir = join(scratch, 'certs');
  await mkdir(certDir, { recursive: true });
  await copyFile(caFile, join(certDir, 'ca.crt')).catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError(
      'ERR_USAGE',
      `${caFile} cannot be read: ${cause.code ?? cause.message}`,
      'Give the certificate of the registry',
      { cause },
    );
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

/** What skopeo's environment needs. Loopback is never asked through a proxy. Source: Go, net/http, ProxyFromEnvironment. */
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
