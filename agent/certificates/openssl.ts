import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Exec, output, quote } from '../host/exec.ts';
import { PrestageError } from '../model/errors.ts';
import type { ServerAddress } from './server-address.ts';

/**
 * Calls of openssl(1) 1.1.1 and later. It gets configurations of our own, because that of the machine may add extensions, and keys by file name, so that
 * no secret is in a command line.
 */

export interface SigningRequest {
  /** A directory of our own, readable by nobody else, for temporary files. */
  readonly work: string;
  readonly keyFile: string;
  readonly days: number;
}

/** A new private key, EC on P-256, as PEM (PKCS#8). Source: openssl-genpkey(1). */
export async function newKey(exec: Exec): Promise<string> {
  const curve = ['-pkeyopt', 'ec_paramgen_curve:P-256', '-pkeyopt', 'ec_param_enc:named_curve'];
  return asText(await output(exec, 'openssl', ['genpkey', '-algorithm', 'EC', ...curve]));
}

/** The certificate of a new CA, as PEM. Its name is unique, so that two CAs in one trust store can be told apart. Source: openssl-req(1). */
export async function newAuthority(exec: Exec, { work, keyFile, days }: SigningRequest): Promise<string> {
  const config = join(work, 'ca.cnf');
  await writeFile(config, authorityConfig(randomBytes(4).toString('hex')));
  const args = ['req', '-x509', '-new', '-sha256', '-config', config, '-key', keyFile, '-days', `${days}`, '-set_serial', newSerial()];
  return asText(await output(exec, 'openssl', args));
}

/** The certificate of a server, signed by the CA, as PEM. Source: openssl-req(1), openssl-x509(1), x509v3_config(5). */
export async function newServer(
  exec: Exec,
  request: SigningRequest & { readonly address: ServerAddress; readonly caFile: string; readonly caKeyFile: string },
): Promise<string> {
  const { work, keyFile, caFile, caKeyFile } = request;
  const [config, wish] = [join(work, 'server.cnf'), join(work, 'server.csr')];
  await writeFile(config, serverConfig(request.address));
  await output(exec, 'openssl', ['req', '-new', '-sha256', '-config', config, '-key', keyFile, '-out', wish]);
  const sign = ['x509', '-req', '-sha256', '-in', wish, '-CA', caFile, '-CAkey', caKeyFile, '-set_serial', newSerial()];
  return asText(await output(exec, 'openssl', [...sign, '-days', `${request.days}`, '-extfile', config, '-extensions', 'server']));
}

/**
 * Checks with openssl that clients of the address accept the certificate. Source: openssl-verification-options(1).
 * @throws PrestageError ERR_CERTIFICATE
 */
export async function proveServer(exec: Exec, caFile: string, address: ServerAddress, file: string): Promise<void> {
  const name = address.kind === 'ip' ? ['-verify_ip', address.text] : ['-verify_hostname', address.text];
  const args = ['verify', '-no-CApath', '-CAfile', caFile, '-x509_strict', '-purpose', 'sslserver', ...name, file];
  const { exitCode, stdout, stderr } = await exec('openssl', args);
  if (exitCode === 0) return;
  throw new PrestageError(
    'ERR_CERTIFICATE',
    `openssl does not accept ${file} for ${address.text}: ${quote(`${stdout}\n${stderr}`)}`,
    'Remove the file and its key, and run the command again to make new ones',
  );
}

/** Source: config(5), x509v3_config(5). A CA that signs servers and no other CA. */
function authorityConfig(name: string): string {
  return [
    '[req]',
    'prompt = no',
    'distinguished_name = name',
    'x509_extensions = ca',
    '[name]',
    `CN = prestage-agent CA ${name}`,
    '[ca]',
    'basicConstraints = critical,CA:TRUE,pathlen:0',
    'keyUsage = critical,keyCertSign,cRLSign',
    'subjectKeyIdentifier = hash',
    'authorityKeyIdentifier = keyid',
    '',
  ].join('\n');
}

/** The common name does not contain the address: it is limited to 64 characters, and clients check only subjectAltName. */
function serverConfig(address: ServerAddress): string {
  return [
    '[req]',
    'prompt = no',
    'distinguished_name = name',
    '[name]',
    'CN = prestage-agent registry',
    '[server]',
    'basicConstraints = critical,CA:FALSE',
    'keyUsage = critical,digitalSignature',
    'extendedKeyUsage = serverAuth',
    'subjectKeyIdentifier = hash',
    'authorityKeyIdentifier = keyid',
    `subjectAltName = ${address.kind === 'ip' ? 'IP' : 'DNS'}:${address.text}`,
    '',
  ].join('\n');
}

/** Positive and of 16 bytes. Source: RFC 5280, 4.1.2.2 (at most 20). */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return `0x${bytes.toString('hex')}`;
}

function asText(pem: string): string {
  return pem.endsWith('\n') ? pem : `${pem}\n`;
}
