import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';

export interface TestCertificates {
  readonly directory: string;
  /** IPv4 addresses and host names; each gets a certificate and a key of its own. */
  readonly addresses: readonly string[];
  readonly days: number;
}

const DAY_MS = 86_400_000;

/**
 * Writes ca.crt, ca.key and ADDRESS.crt, ADDRESS.key as `prestage-agent certificates` does, without openssl(1). For unit tests, which start no
 * programs; integration/certificates.test.ts tries the real ones. Source of the forms: RFC 5280, section 4; X.690 (DER).
 */
export async function writeTestCertificates({ directory, addresses, days }: TestCertificates): Promise<void> {
  const authority = keyPair();
  const issuer = name(`test CA ${randomBytes(4).toString('hex')}`);
  const issue = (subject: Buffer, key: KeyObject, extensions: readonly Buffer[], validDays = days): string =>
    certificate({ issuer, subject, validDays, key, extensions, signer: authority.privateKey });
  const files: Record<string, string> = {
    // A day longer than what it signs, as the real one.
    'ca.crt': issue(
      issuer,
      authority.publicKey,
      [
        extension('2.5.29.19', sequence(tagged(0x01, Buffer.from([0xff]))), true),
        extension('2.5.29.15', bits(Buffer.from([0x06]), 1), true),
        extension('2.5.29.14', tagged(0x04, keyIdentifier(authority.publicKey))),
      ],
      days + 1,
    ),
    'ca.key': pem('PRIVATE KEY', authority.privateKey.export({ type: 'pkcs8', format: 'der' })),
  };
  for (const address of addresses) {
    const server = keyPair();
    files[`${address}.crt`] = issue(name(address), server.publicKey, [
      extension('2.5.29.17', sequence(isIPv4(address) ? tagged(0x87, ipv4(address)) : tagged(0x82, Buffer.from(address)))),
      extension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1'))),
      extension('2.5.29.35', sequence(tagged(0x80, keyIdentifier(authority.publicKey)))),
    ]);
    files[`${address}.key`] = pem('PRIVATE KEY', server.privateKey.export({ type: 'pkcs8', format: 'der' }));
  }
  await mkdir(directory, { recursive: true });
  for (const [file, text] of Object.entries(files)) await writeFile(join(directory, file), text, { mode: 0o600 });
}

interface CertificateParts {
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly validDays: number;
  readonly key: KeyObject;
  readonly extensions: readonly Buffer[];
  readonly signer: KeyObject;
}

function certificate({ issuer, subject, validDays, key, extensions, signer }: CertificateParts): string {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'));
  const validity = sequence(time(new Date()), time(new Date(Date.now() + validDays * DAY_MS)));
  const version = tagged(0xa0, tagged(0x02, Buffer.from([2])));
  const serial = tagged(0x02, Buffer.from([1, ...randomBytes(8)]));
  const publicKey = key.export({ type: 'spki', format: 'der' });
  const extended = tagged(0xa3, sequence(...extensions));
  const signed = sequence(version, serial, algorithm, issuer, validity, subject, publicKey, extended);
  return pem('CERTIFICATE', sequence(signed, algorithm, bits(sign('sha256', signed, signer), 0)));
}

function keyPair(): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
}

function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest();
}

function name(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(oid('2.5.4.3'), tagged(0x0c, Buffer.from(commonName)))));
}

/** A date as UTCTime, which RFC 5280 asks for until 2049. */
function time(date: Date): Buffer {
  return tagged(0x17, Buffer.from(`${date.toISOString().replace(/[-:T]/g, '').slice(2, 14)}Z`));
}

function ipv4(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

function extension(id: string, value: Buffer, isCritical = false): Buffer {
  const critical = isCritical ? [tagged(0x01, Buffer.from([0xff]))] : [];
  return sequence(oid(id), ...critical, tagged(0x04, value));
}

function bits(content: Buffer, unused: number): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.from([unused]), content]));
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  return tagged(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(value: number): readonly number[] {
  const low = value & 0x7f;
  const high = value >> 7;
  return high === 0 ? [low] : [...base128(high).map((byte) => byte | 0x80), low];
}

function tagged(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const long = length > 0xff ? [0x82, length >> 8, length & 0xff] : [0x81, length];
  return Buffer.concat([Buffer.from([tag, ...(length < 0x80 ? [length] : long)]), content]);
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
