import type { X509Certificate } from 'node:crypto';
import { chmod, mkdtemp, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomic } from '../host/atomic.ts';
import { makeWorkplace } from '../host/chain.ts';
import { readIfThere } from '../host/files.ts';
import type { Host } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import { newAuthority, newKey, newServer, proveServer } from './openssl.ts';
import { authorityFault, readCertificates, readPrivateKey, serverFault } from './pem.ts';
import { readServerAddresses, type ServerAddress } from './server-address.ts';

export interface CertificateRequest {
  /** Directory of the certificates, also of those of an earlier call; it is made if it is missing. */
  readonly directory: string;
  /** IP addresses and host names of the servers, at least one. */
  readonly addresses: readonly string[];
  /** How long new certificates are valid; a server never longer than its CA. */
  readonly days: number;
}

/** A certificate and its key in the directory. */
export interface CertificatePair {
  /** Path, PEM. */
  readonly certificate: string;
  /** Path, PEM, mode 0600. */
  readonly key: string;
  readonly isNew: boolean;
  /** RFC 3339. */
  readonly notAfter: string;
}

export interface CertificateReport {
  readonly authority: CertificatePair;
  readonly servers: readonly (CertificatePair & { readonly address: string })[];
  readonly notices: readonly string[];
}

const DAY_MS = 86_400_000;
/** A certificate that expires sooner is made again if possible, so that nodes get a new one before the old one fails. */
const RENEWAL_DAYS = 30;
const WORK_PREFIX = '.certificates-';
const CA_NAME = 'ca';

/**
 * Makes a CA once, and for each address a key and a certificate that the CA has signed. Existing good files are kept, so that a second call adds servers
 * to the same CA. Runs on the machine of an author: the key of the CA must not get to a node.
 * @throws PrestageError ERR_USAGE for addresses, ERR_CERTIFICATE for a CA that cannot be used, ERR_TOOL_MISSING without openssl
 */
export async function makeCertificates(host: Pick<Host, 'exec' | 'clock'>, request: CertificateRequest): Promise<CertificateReport> {
  const addresses = readServerAddresses(request.addresses);
  if (addresses.some(({ text }) => text === CA_NAME)) {
    throw new PrestageError(
      'ERR_USAGE',
      `a server cannot be called "${CA_NAME}", because the files of the CA have that name`,
      'Give its full host name',
    );
  }
  const { directory } = request;
  const work = await workDirectory(directory);
  try {
    const making: Making = { host, directory, work, days: request.days };
    const authority = await keepOrMakeAuthority(making);
    const servers: CertificateReport['servers'][number][] = [];
    for (const address of addresses) servers.push(await keepOrMakeServer(making, authority.parsed, address));
    const notices = (await Promise.all([authority.pair, ...servers].map(closeKey))).flat();
    return { authority: authority.pair, servers, notices };
  } finally {
    await removeTree(work);
  }
}

/** Makes a directory for this call inside that of the certificates, so that it is writable and on the same file system. Removes those of interrupted calls. */
async function workDirectory(directory: string): Promise<string> {
  try {
    await makeWorkplace(directory);
    for (const name of await readdir(directory)) if (name.startsWith(WORK_PREFIX)) await removeTree(join(directory, name));
    return await mkdtemp(join(directory, WORK_PREFIX));
  } catch (error) {
    if (error instanceof PrestageError) throw error;
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `certificates cannot be written to ${directory}: ${reasonOf(error)}`,
      'Give a --directory that you can write to',
      { cause: error },
    );
  }
}

interface Making {
  readonly host: Pick<Host, 'exec' | 'clock'>;
  readonly directory: string;
  readonly work: string;
  readonly days: number;
}

interface Authority {
  readonly pair: CertificatePair;
  readonly parsed: X509Certificate;
}

/** A call that was interrupted may have left a key without its certificate; that key is used. */
async function keepOrMakeAuthority({ host, directory, work, days }: Making): Promise<Authority> {
  const files = pathsOf(directory, CA_NAME);
  const [text, keyText] = await Promise.all([textOf(files.certificate), textOf(files.key)]);
  if (text !== undefined) {
    const parsed = soleCertificate(text, files.certificate);
    const fault = authorityPairFault(parsed, keyText, files.key, host.clock.now());
    if (fault !== undefined) throw unusableAuthority(files.certificate, fault);
    return { pair: pairOf(directory, CA_NAME, parsed, false), parsed };
  }
  if (keyText === undefined) await writeAtomic(files.key, await newKey(host.exec), 0o600);
  else readPrivateKey(keyText, files.key);
  // One day longer than its servers, which are made a moment later and must not outlive it.
  const made = await newAuthority(host.exec, { work, keyFile: files.key, days: days + 1 });
  await writeAtomic(files.certificate, made);
  const parsed = soleCertificate(made, files.certificate);
  return { pair: pairOf(directory, CA_NAME, parsed, true), parsed };
}

function soleCertificate(pem: string, where: string): X509Certificate {
  const [first, ...others] = readCertificates(pem, where);
  if (first !== undefined && others.length === 0) return first;
  throw unusableAuthority(where, `it holds ${others.length + 1} certificates`);
}

function authorityPairFault(parsed: X509Certificate, keyText: string | undefined, key: string, now: Date): string | undefined {
  if (keyText === undefined) return `its key ${key} is missing`;
  if (!parsed.checkPrivateKey(readPrivateKey(keyText, key))) return `${key} is the key of another certificate`;
  const fault = authorityFault(parsed, now);
  return fault === undefined && daysLeft(parsed, now) < 1 ? `it expires at ${parsed.validToDate.toISOString()}` : fault;
}

async function keepOrMakeServer(
  making: Making,
  authority: X509Certificate,
  address: ServerAddress,
): Promise<CertificateReport['servers'][number]> {
  const { host, directory } = making;
  const days = Math.min(making.days, daysLeft(authority, host.clock.now()));
  const kept = await goodServer(making, authority, address, Math.min(RENEWAL_DAYS, days / 3));
  const certificate = kept ?? (await makeServer(making, address, days));
  await proveServer(host.exec, pathsOf(directory, CA_NAME).certificate, address, pathsOf(directory, address.text).certificate);
  return { address: address.text, ...pairOf(directory, address.text, certificate, kept === undefined) };
}

async function makeServer({ host, directory, work }: Making, address: ServerAddress, days: number): Promise<X509Certificate> {
  const authority = pathsOf(directory, CA_NAME);
  const { certificate, key } = pathsOf(directory, address.text);
  const keyText = await newKey(host.exec);
  const keyFile = join(work, 'server.key');
  await writeFile(keyFile, keyText, { mode: 0o600 });
  const made = await newServer(host.exec, { work, keyFile, days, address, caFile: authority.certificate, caKeyFile: authority.key });
  // The key first: the next call checks both, and replaces a certificate that belongs to another key.
  await writeAtomic(key, keyText, 0o600);
  await writeAtomic(certificate, made);
  return soleCertificate(made, certificate);
}

/**
 * The server's certificate if it, its key and its dates are good; one that is damaged or expires soon counts as missing and is made again.
 * @throws PrestageError ERR_CERTIFICATE for a certificate of another CA: somebody may need it
 */
async function goodServer(
  { host, directory }: Making,
  authority: X509Certificate,
  address: ServerAddress,
  renewalDays: number,
): Promise<X509Certificate | undefined> {
  const { certificate, key } = pathsOf(directory, address.text);
  const [text, keyText] = await Promise.all([textOf(certificate), textOf(key)]);
  if (text === undefined || keyText === undefined) return undefined;
  const leaf = orUndefined(() => readCertificates(text, certificate)[0]);
  const keyOfLeaf = orUndefined(() => readPrivateKey(keyText, key));
  if (leaf === undefined || keyOfLeaf === undefined) return undefined;
  if (!leaf.checkIssued(authority)) {
    throw new PrestageError(
      'ERR_CERTIFICATE',
      `${certificate} was issued by another CA (${leaf.issuer.replaceAll('\n', ', ')}), and would be replaced`,
      'Move it and its key away, or give another --directory',
    );
  }
  const now = host.clock.now();
  const isGood =
    leaf.checkPrivateKey(keyOfLeaf) &&
    serverFault({ chain: [leaf], authorities: [authority], address, now }) === undefined &&
    daysLeft(leaf, now) >= renewalDays;
  return isGood ? leaf : undefined;
}

/** The result of a reading, or undefined if it fails with ERR_CERTIFICATE. */
function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof PrestageError && error.code === 'ERR_CERTIFICATE') return undefined;
    throw error;
  }
}

/** Makes a key unreadable for other users, and returns a notice if they could read it. */
async function closeKey({ key }: CertificatePair): Promise<readonly string[]> {
  const mode = (await stat(key)).mode & 0o777;
  if ((mode & 0o077) === 0) return [];
  await chmod(key, 0o600);
  return [`${key} could be read by other users (mode 0${mode.toString(8)}) and now has mode 0600; if somebody has read it, make a new CA`];
}

function pathsOf(directory: string, name: string): { readonly certificate: string; readonly key: string } {
  return { certificate: join(directory, `${name}.crt`), key: join(directory, `${name}.key`) };
}

function pairOf(directory: string, name: string, parsed: X509Certificate, isNew: boolean): CertificatePair {
  return { ...pathsOf(directory, name), isNew, notAfter: parsed.validToDate.toISOString() };
}

/** Whole days that a certificate is still valid. */
function daysLeft(certificate: X509Certificate, now: Date): number {
  return Math.floor((certificate.validToDate.getTime() - now.getTime()) / DAY_MS);
}

function unusableAuthority(path: string, why: string): PrestageError {
  return new PrestageError(
    'ERR_CERTIFICATE',
    `the CA ${path} cannot sign certificates for servers: ${why}`,
    'Put its key and certificate back, or give another --directory for a new CA and render the ignition of all nodes again',
  );
}

async function textOf(path: string): Promise<string | undefined> {
  return await readIfThere(path);
}
