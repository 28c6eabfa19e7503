import type { X509Certificate } from 'node:crypto';
import { dirname, join } from 'node:path';
import { authorityFault, pemOf, readCertificates, readPrivateKey, serverFault } from '../certificates/pem.ts';
import { readServerEndpoint } from '../certificates/server-address.ts';
import { PrestageError } from '../model/errors.ts';
import { type IgnitionFile, ownFile, readNamedFile } from './own-file.ts';
import type { ServedAt } from './run-arguments.ts';

/** A node that serves the cluster; paths are those of the author's machine. */
export interface ServeRequest extends ServedAt {
  /** The server's certificate, with those between it and its CA behind it. PEM. */
  readonly certificate: string;
  readonly key: string;
  /** `ca.crt` beside the certificate where left out. */
  readonly ca?: string;
}

export interface ClusterServer {
  readonly served: ServedAt;
  readonly files: readonly IgnitionFile[];
  readonly warnings: readonly string[];
}

/** Where the settings tls-certificate and tls-key point to by default. */
const TLS_DIRECTORY = '/etc/prestage-agent/tls';
/** Any port does to look at an address. */
const SOME_PORT = 443;
const WARN_DAYS = 90;
const DAY_MS = 86_400_000;

/**
 * What a serving node gets besides launcher and unit: certificate, key and CA, checked as the other nodes will check them.
 * @throws PrestageError ERR_USAGE for an address that others cannot use and for files that cannot be read, ERR_CERTIFICATE for what clients
 * would refuse
 */
export async function readClusterServer(request: ServeRequest, now: Date): Promise<ClusterServer> {
  const { certificate, key, ca = join(dirname(certificate), 'ca.crt'), port } = request;
  const endpoint = readServerEndpoint(`${request.address}:${port ?? SOME_PORT}`);
  if ('fault' in endpoint) {
    throw new PrestageError(
      'ERR_USAGE',
      `--address ${endpoint.fault}`,
      'Give the IPv4 address or the host name by which the other nodes reach this one',
    );
  }
  const { address } = endpoint;
  const [certificateText, keyText, caText] = await Promise.all([
    readNamedFile({ path: certificate, flag: '--certificate', what: 'the certificate', kind: 'certificate' }),
    readNamedFile({ path: key, flag: '--key', what: 'the key', kind: 'private key' }),
    readNamedFile({ path: ca, flag: '--ca', what: 'the CA', kind: 'certificate' }),
  ]);
  const chain = readCertificates(certificateText, certificate);
  const privateKey = readPrivateKey(keyText, key);
  const authorities = readAuthorities(caText, ca, now);
  const fault = serverFault({ chain, authorities, address, now }) ?? (chain[0]?.checkPrivateKey(privateKey) ? undefined : OTHER_KEY);
  if (fault !== undefined) {
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `the other nodes would refuse ${certificate}: ${fault}`,
      `Make one: prestage-agent certificates --directory DIR --address ${address.text}`,
    );
  }
  return {
    served: { address: address.text, ...(port !== undefined && { port }) },
    files: [
      ownFile(`${TLS_DIRECTORY}/registry.crt`, pemOf(chain)),
      ownFile(`${TLS_DIRECTORY}/registry.key`, privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(), 0o600),
      ownFile(`${TLS_DIRECTORY}/ca.crt`, pemOf(authorities)),
    ],
    warnings: [
      `the override holds the private key of the registry at ${address.text}: whoever can read the override can pass for it`,
      ...endWarnings([...chain, ...authorities], now),
    ],
  };
}

const OTHER_KEY = 'the key is that of another certificate';

/**
 * The CAs of a file, as clients are to trust them.
 * @throws PrestageError ERR_CERTIFICATE
 */
export function readAuthorities(text: string, where: string, now: Date): readonly X509Certificate[] {
  const authorities = readCertificates(text, where);
  const faults = authorities.flatMap((certificate) => authorityFault(certificate, now) ?? []);
  const [fault] = faults;
  if (fault === undefined) return authorities;
  throw new PrestageError(
    'ERR_CERTIFICATE',
    `${where} cannot be trusted as a CA: ${fault}`,
    'Give the certificate of the CA that signed the servers: ca.crt of prestage-agent certificates',
  );
}

/** Certificates that end within some months: a site that installs from a disk is seldom visited. */
export function endWarnings(certificates: readonly X509Certificate[], now: Date): readonly string[] {
  const soon = certificates.filter(({ validToDate }) => validToDate.getTime() - now.getTime() < WARN_DAYS * DAY_MS);
  return soon.map(
    ({ subject, validToDate }) =>
      `the certificate ${subject.replaceAll('\n', ', ')} ends at ${validToDate.toISOString().slice(0, 10)}; from then on nodes refuse the mirror`,
  );
}
