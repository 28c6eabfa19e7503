import type { X509Certificate } from 'node:crypto';
import { dirname, join } from 'node:path';
import { authorityFault, pemOf, readCertificates, readPrivateKey, serverFault } from '../certificates/pem.ts';
import { readServerEndpoint } from '../certificates/server-address.ts';
import { PrestageError } from '../model/errors.ts';
import { type IgnitionFile, ownFile, readNamedFile } from './own-file.ts';
import type { ServedAt } from './run-arguments.ts';

/** Input for a node that serves the cluster. Paths are on the author's machine. */
export interface ServeRequest extends ServedAt {
  /** The server's certificate, followed by the intermediate certificates. PEM. */
  readonly certificate: string;
  readonly key: string;
  /** Defaults to `ca.crt` beside the certificate. */
  readonly ca?: string;
}

export interface ClusterServer {
  readonly served: ServedAt;
  readonly files: readonly IgnitionFile[];
  readonly warnings: readonly string[];
}

/** Where the settings tls-certificate and tls-key point to by default. */
const TLS_DIRECTORY = '/etc/prestage-agent/tls';
/** Any port will do to parse an address. */
const SOME_PORT = 443;
const WARN_DAYS = 90;
const DAY_MS = 86_400_000;

/**
 * Renders the additional files of a serving node: certificate, key and CA, checked as the other nodes will check them.
 * @throws PrestageError ERR_USAGE for an address that others cannot use and for files that cannot be read, ERR_CERTIFICATE if clients would refuse
 * the certificate
 */
export async function readClusterServer(request: ServeRequest, now: Date): Promise<ClusterServer> {
  const { certificate, key, ca = join(dirname(certificate), 'ca.crt'), port } = request;
  const endpoint = readServerEndpoint(`${request.address}:${port ?? SOME_PORT}`);
  if ('fault' in endpoint) {
    throw new PrestageError(
      'ERR_USAGE',
      `--address ${endpoint.fault}`,
      'Set it to the IPv4 address or the host name that other nodes use to reach this node',
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
      `${certificate}: the other nodes would refuse it: ${fault}`,
      `Create another: prestage-agent certificates --directory DIR --address ${address.text}`,
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
      `the override contains the private key of the registry at ${address.text}: anyone who can read it can impersonate that registry`,
      ...endWarnings([...chain, ...authorities], now),
    ],
  };
}

const OTHER_KEY = 'the key belongs to another certificate';

/**
 * Reads the CAs in a file and checks that clients can trust them.
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
    'Use the certificate of the CA that signed the servers: ca.crt of prestage-agent certificates',
  );
}

/** Warns of certificates that expire within some months, because a site that installs from a disk is rarely visited. */
export function endWarnings(certificates: readonly X509Certificate[], now: Date): readonly string[] {
  const soon = certificates.filter(({ validToDate }) => validToDate.getTime() - now.getTime() < WARN_DAYS * DAY_MS);
  return soon.map(
    ({ subject, validToDate }) =>
      `the certificate ${subject.replaceAll('\n', ', ')} expires on ${validToDate.toISOString().slice(0, 10)}; after that, nodes refuse the mirror`,
  );
}
