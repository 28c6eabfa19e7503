import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { errorRecord, PrestageError } from '../model/errors.ts';
import type { ServerAddress } from './server-address.ts';

/** Blocks of a PEM text. Source: RFC 7468, 2 and 3. */
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g;
/** `serverAuth` among the extended key usages. Source: RFC 5280, 4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
/** Most certificates between a server and its CA: a longer chain is a loop. */
const CHAIN_LIMIT = 8;

/**
 * The certificates of a PEM text in its order; text between them is skipped.
 * @param where the file, for messages
 * @throws PrestageError ERR_CERTIFICATE if there is none, one cannot be read, or there is a private key among them
 */
export function readCertificates(text: string, where: string): readonly X509Certificate[] {
  const blocks = [...text.matchAll(BLOCK)].map(([block, label = '']) => ({ block, label }));
  if (blocks.some(({ label }) => label.endsWith('PRIVATE KEY'))) {
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `${where} contains a private key, but only certificates are expected`,
      'Give the file of the certificate; keep the key of the CA away from the nodes',
    );
  }
  const certificates = blocks.filter(({ label }) => label === 'CERTIFICATE').map(({ block }) => parseCertificate(block, where));
  if (certificates.length > 0) return certificates;
  throw new PrestageError('ERR_CERTIFICATE', `${where} contains no certificate`, 'Give a file with certificates in PEM format');
}

/**
 * The private key of a PEM text.
 * @throws PrestageError ERR_CERTIFICATE if it contains none, or one that is protected by a password
 */
export function readPrivateKey(text: string, where: string): KeyObject {
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text)) {
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `${where} is protected by a password, which nobody can type at boot`,
      'Make a copy without the password: openssl pkey -in FILE -out COPY',
    );
  }
  try {
    return createPrivateKey(text);
  } catch (error) {
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `${where} contains no readable private key: ${errorRecord(error).message}`,
      'Give a file with the private key in PEM format',
      { cause: error },
    );
  }
}

/** The certificates as PEM, without any text around them. */
export function pemOf(certificates: readonly X509Certificate[]): string {
  return certificates.map((certificate) => certificate.toString()).join('');
}

/** Why a certificate is not a CA for servers now; undefined if it is one. */
export function authorityFault(certificate: X509Certificate, now: Date): string | undefined {
  if (!certificate.ca) return 'it is not the certificate of a CA';
  return timeFault(certificate, now);
}

export interface ServerClaim {
  /** The server's certificate, followed by those between it and a CA. */
  readonly chain: readonly X509Certificate[];
  readonly authorities: readonly X509Certificate[];
  readonly address: ServerAddress;
  readonly now: Date;
}

/**
 * Why a client that trusts these CAs would refuse the server at this address; undefined if it would not.
 * Source: RFC 5280, 6.1, as far as engines check: time, issuer, use, and only the subjectAltName (the common name is ignored).
 */
export function serverFault({ chain, authorities, address, now }: ServerClaim): string | undefined {
  const [leaf, ...between] = chain;
  if (leaf === undefined) return 'there is no certificate';
  const time = timeFault(leaf, now);
  if (time !== undefined) return time;
  if (leaf.keyUsage !== undefined && !leaf.keyUsage.includes(SERVER_AUTH)) return 'it is not for servers (extended key usage)';
  const isNamed =
    address.kind === 'ip' ? leaf.checkIP(address.text) !== undefined : leaf.checkHost(address.text, { subject: 'never' }) !== undefined;
  if (!isNamed) return `it is for ${leaf.subjectAltName ?? 'no address'}, not for ${address.text}`;
  const anchor = anchorOf(leaf, between, authorities);
  if (anchor === undefined) return 'the CA has not issued it';
  const fault = timeFault(anchor, now);
  return fault === undefined ? undefined : `its CA cannot be used: ${fault}`;
}

function timeFault(certificate: X509Certificate, now: Date): string | undefined {
  if (certificate.validToDate <= now) return `it expired at ${certificate.validToDate.toISOString()}`;
  return certificate.validFromDate > now ? `it is not valid before ${certificate.validFromDate.toISOString()}` : undefined;
}

function anchorOf(
  leaf: X509Certificate,
  between: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
): X509Certificate | undefined {
  let current = leaf;
  for (let length = 0; length < CHAIN_LIMIT; length++) {
    const authority = authorities.find((candidate) => candidate.fingerprint256 === current.fingerprint256 || isIssuer(candidate, current));
    if (authority !== undefined) return authority;
    const next = between.find((candidate) => isIssuer(candidate, current));
    if (next === undefined) return undefined;
    current = next;
  }
  return undefined;
}

function isIssuer(issuer: X509Certificate, issued: X509Certificate): boolean {
  return issued.checkIssued(issuer) && issued.verify(issuer.publicKey);
}

function parseCertificate(block: string, where: string): X509Certificate {
  try {
    return new X509Certificate(block);
  } catch (error) {
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `${where} contains a certificate that cannot be read: ${errorRecord(error).message}`,
      'Give a file with certificates in PEM format',
      { cause: error },
    );
  }
}
