import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type CertificateReport, type CertificateRequest, makeCertificates } from '../../../agent/certificates/certificates.ts';
import { pemOf, readCertificates, readPrivateKey, serverFault } from '../../../agent/certificates/pem.ts';
import { readServerAddress } from '../../../agent/certificates/server-address.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { Host } from '../../../agent/host/host.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { type ErrorRecord, errorRecord } from '../../../agent/model/errors.ts';
import { thrownBy } from '../../support/thrown.ts';

const DAY_MS = 86_400_000;
const machine = linuxHost({ root: '/', env: {}, log: () => {} });
let scratch = '';
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'certificates-'));
});
after(() => rm(scratch, { recursive: true, force: true }));

async function directory(name: string): Promise<string> {
  return await mkdtemp(join(scratch, `${name}-`));
}

function make(directory: string, addresses: readonly string[], options: Partial<CertificateRequest> = {}): Promise<CertificateReport> {
  return makeCertificates(machine, { directory, addresses, days: 100, ...options });
}

async function refused(act: () => Promise<unknown>): Promise<ErrorRecord> {
  try {
    await act();
  } catch (error) {
    return errorRecord(error);
  }
  return assert.fail('nothing was thrown');
}

/** The machine as it will be after so many days, as far as we look at its clock. */
function later(days: number): Pick<Host, 'exec' | 'clock'> {
  return { ...machine, clock: { ...machine.clock, now: () => new Date(Date.now() + days * DAY_MS) } };
}

const newness = ({ authority, servers }: CertificateReport) => [authority.isNew, ...servers.map(({ isNew }) => isNew)];

test('a CA and a server for each address are made, keys readable by the owner alone, nothing else left behind', async () => {
  const home = join(await directory('first'), 'tls');
  const report = await make(home, ['192.0.2.10', 'Node1.example.com', '2001:DB8:0:0::1']);
  assert.deepEqual(newness(report), [true, true, true, true]);
  assert.deepEqual(report.notices, []);
  assert.deepEqual(
    report.servers.map(({ address }) => address),
    ['192.0.2.10', 'node1.example.com', '2001:db8::1'],
  );
  const modes = await Promise.all(
    (await readdir(home)).sort().map(async (name) => [name, ((await stat(join(home, name))).mode & 0o777).toString(8)]),
  );
  assert.deepEqual(modes, [
    ['192.0.2.10.crt', '644'],
    ['192.0.2.10.key', '600'],
    ['2001:db8::1.crt', '644'],
    ['2001:db8::1.key', '600'],
    ['ca.crt', '644'],
    ['ca.key', '600'],
    ['node1.example.com.crt', '644'],
    ['node1.example.com.key', '600'],
  ]);
});

test('a server is for its address alone, for TLS servers alone, and signs nothing', async () => {
  const home = await directory('use');
  await make(home, ['192.0.2.10']);
  const server = new X509Certificate(await readFile(join(home, '192.0.2.10.crt')));
  assert.deepEqual(
    [server.subjectAltName, server.keyUsage, server.ca, server.publicKey.asymmetricKeyDetails?.namedCurve],
    ['IP Address:192.0.2.10', ['1.3.6.1.5.5.7.3.1'], false, 'prime256v1'],
  );
  const text = await output(execOnLinux, 'openssl', ['x509', '-noout', '-text', '-in', join(home, 'ca.crt')]);
  assert.match(text, /X509v3 Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
});

test('openssl takes each certificate for its own address and for no other', async () => {
  const home = await directory('verify');
  await make(home, ['192.0.2.10', 'node1.example.com', '2001:db8::1']);
  const verify = async (file: string, name: readonly string[]) =>
    (await execOnLinux('openssl', ['verify', '-x509_strict', '-CAfile', join(home, 'ca.crt'), ...name, join(home, file)])).exitCode;
  assert.deepEqual(
    await Promise.all([
      verify('192.0.2.10.crt', ['-verify_ip', '192.0.2.10']),
      verify('192.0.2.10.crt', ['-verify_ip', '192.0.2.11']),
      verify('node1.example.com.crt', ['-verify_hostname', 'node1.example.com']),
      verify('node1.example.com.crt', ['-verify_hostname', 'x.node1.example.com']),
      verify('2001:db8::1.crt', ['-verify_ip', '2001:db8::1']),
    ]),
    [0, 2, 0, 2, 0],
  );
});

test('a second call keeps what is there, byte for byte, and adds what is new to the same CA', async () => {
  const home = await directory('second');
  await make(home, ['192.0.2.10']);
  const before = await contents(home);
  assert.deepEqual(newness(await make(home, ['192.0.2.10', '192.0.2.11'])), [false, false, true]);
  const { '192.0.2.11.crt': certificate, '192.0.2.11.key': key, ...others } = await contents(home);
  assert.deepEqual(others, before);
  assert.ok(certificate !== undefined && key !== undefined);
});

test('a server that ends soon, lacks its key or has another one is made again, and the CA stays', async () => {
  const home = await directory('again');
  await make(home, ['192.0.2.10'], { days: 300 });
  const ca = await readFile(join(home, 'ca.crt'), 'utf8');
  assert.deepEqual(newness(await make(home, ['192.0.2.10'], { days: 300 })), [false, false]);
  await rm(join(home, '192.0.2.10.key'));
  assert.deepEqual(newness(await make(home, ['192.0.2.10'], { days: 300 })), [false, true]);
  await writeFile(join(home, '192.0.2.10.key'), await readFile(join(home, 'ca.key')));
  assert.deepEqual(newness(await make(home, ['192.0.2.10'], { days: 20 })), [false, true]);
  assert.deepEqual(newness(await make(home, ['192.0.2.10'], { days: 300 })), [false, true]);
  await writeFile(join(home, '192.0.2.10.crt'), 'cut off');
  assert.deepEqual(newness(await make(home, ['192.0.2.10'], { days: 300 })), [false, true]);
  assert.equal(await readFile(join(home, 'ca.crt'), 'utf8'), ca);
});

test('a server never outlives its CA', async () => {
  const home = await directory('short');
  const { authority } = await make(home, ['192.0.2.10'], { days: 10 });
  const { servers } = await make(home, ['192.0.2.11'], { days: 3000 });
  assert.ok(servers.every(({ notAfter }) => notAfter <= authority.notAfter));
});

test('a CA whose key alone was written is finished by the next call', async () => {
  const home = await directory('killed');
  await make(home, ['192.0.2.10']);
  const key = await readFile(join(home, 'ca.key'), 'utf8');
  for (const name of ['ca.crt', '192.0.2.10.crt', '192.0.2.10.key']) await rm(join(home, name));
  await mkdir(join(home, '.certificates-left'));
  assert.deepEqual(newness(await make(home, ['192.0.2.10'])), [true, true]);
  assert.equal(await readFile(join(home, 'ca.key'), 'utf8'), key);
  assert.deepEqual((await readdir(home)).sort(), ['192.0.2.10.crt', '192.0.2.10.key', 'ca.crt', 'ca.key']);
});

test('a key that others could read is closed, and a notice says so', async () => {
  const home = await directory('open');
  await make(home, ['192.0.2.10']);
  await chmod(join(home, 'ca.key'), 0o644);
  assert.deepEqual((await make(home, ['192.0.2.10'])).notices, [
    `${join(home, 'ca.key')} could be read by other users (mode 0644) and now has mode 0600; if somebody has read it, make a new CA`,
  ]);
  assert.equal((await stat(join(home, 'ca.key'))).mode & 0o777, 0o600);
});

test('a CA without its key, with another key, that is none, or that has ended signs nothing', async () => {
  const home = await directory('ca');
  await make(home, ['192.0.2.10']);
  const other = await directory('other');
  await make(other, ['192.0.2.10']);
  const [certificate, key] = [join(home, 'ca.crt'), join(home, 'ca.key')];
  const { validToDate } = new X509Certificate(await readFile(certificate));
  const [good, goodKey] = [await readFile(certificate, 'utf8'), await readFile(key, 'utf8')];
  const messageAfter = async (change: () => Promise<void>, host: Pick<Host, 'exec' | 'clock'> = machine) => {
    await change();
    const record = await refused(() => makeCertificates(host, { directory: home, addresses: ['192.0.2.11'], days: 100 }));
    await writeFile(certificate, good);
    await writeFile(key, goodKey);
    assert.deepEqual(
      [record.code, record.remedy],
      [
        'ERR_CERTIFICATE',
        'Put its key and certificate back, or give another --directory for a new CA and render the ignition of all nodes again',
      ],
    );
    return record.message;
  };
  const begin = `the CA ${certificate} cannot sign certificates for servers: `;
  assert.equal(await messageAfter(() => rm(key)), `${begin}its key ${key} is missing`);
  assert.equal(
    await messageAfter(async () => writeFile(key, await readFile(join(other, 'ca.key')))),
    `${begin}${key} is the key of another certificate`,
  );
  assert.equal(await messageAfter(() => writeFile(certificate, `${good}${good}`)), `${begin}it holds 2 certificates`);
  const server = async () => {
    await writeFile(certificate, await readFile(join(home, '192.0.2.10.crt')));
    await writeFile(key, await readFile(join(home, '192.0.2.10.key')));
  };
  assert.equal(await messageAfter(server), `${begin}it is not the certificate of a CA`);
  const end = validToDate.toISOString();
  assert.equal(await messageAfter(async () => {}, later(101)), `${begin}it expired at ${end}`);
  assert.equal(await messageAfter(async () => {}, later(100.5)), `${begin}it expires at ${end}`);
});

test('a certificate that another CA has issued is not replaced', async () => {
  const [home, other] = [await directory('mine'), await directory('theirs')];
  await make(other, ['192.0.2.10']);
  await make(home, ['192.0.2.11']);
  for (const name of ['192.0.2.10.crt', '192.0.2.10.key']) await writeFile(join(home, name), await readFile(join(other, name)));
  const record = await refused(() => make(home, ['192.0.2.10']));
  assert.equal(record.code, 'ERR_CERTIFICATE');
  assert.match(record.message, /192\.0\.2\.10\.crt was issued by another CA \(CN=prestage-agent CA [0-9a-f]{8}\), and would be replaced$/);
  assert.equal(record.remedy, 'Move it and its key away, or give another --directory');
});

test('addresses at which other nodes find nothing are refused, all at once, before anything is written', async () => {
  const home = join(await directory('addresses'), 'tls');
  const record = await refused(() =>
    make(home, ['0.0.0.0', '::', '127.0.0.1', '*.example.com', 'localhost', 'fe80::1', 'fe80::1%eth0', 'node_1', '10.0.0', 'a', 'A']),
  );
  assert.deepEqual(record, {
    code: 'ERR_USAGE',
    message: [
      'these are not addresses of servers: 10 faults',
      '"0.0.0.0" cannot be reached by other nodes: it stands for all addresses of a machine, not for one',
      '"::" cannot be reached by other nodes: it stands for all addresses of a machine, not for one',
      '"127.0.0.1" cannot be reached by other nodes: only the machine itself can reach it',
      '"*.example.com" is a wildcard: give the name of each server',
      '"localhost" cannot be reached by other nodes: only the machine itself can reach it',
      '"fe80::1" cannot be reached by other nodes: it has a different meaning on each network',
      '"fe80::1%eth0" has a zone, which is valid only on one machine',
      '"node_1" is neither an IP address nor a host name',
      '"10.0.0" is neither an IP address nor a host name',
      '"a" is given twice',
    ].join('\n'),
    remedy: 'For each server, give the IP address or the host name that other nodes use to reach it',
  });
  assert.equal(
    (await refused(() => make(home, ['ca']))).message,
    'a server cannot be called "ca", because the files of the CA have that name',
  );
  await assert.rejects(stat(home), { code: 'ENOENT' });
});

test('without openssl nothing is written', async () => {
  const home = await directory('tool');
  const host = { ...machine, exec: (_file: string, args: readonly string[]) => execOnLinux('/nonexistent/openssl', args) };
  assert.equal(
    (await refused(() => makeCertificates(host, { directory: home, addresses: ['192.0.2.1'], days: 1 }))).code,
    'ERR_TOOL_MISSING',
  );
  assert.deepEqual(await readdir(home), []);
});

test('no key and nothing of one stands in a command line', async () => {
  const home = await directory('argv');
  const lines: string[] = [];
  const host: Pick<Host, 'exec' | 'clock'> = {
    ...machine,
    exec: async (file, args, options) => {
      lines.push(args.join(' '));
      return await execOnLinux(file, args, options);
    },
  };
  await makeCertificates(host, { directory: home, addresses: ['192.0.2.10'], days: 1 });
  const keys = [await readFile(join(home, 'ca.key'), 'utf8'), await readFile(join(home, '192.0.2.10.key'), 'utf8')];
  const secrets = keys.flatMap((key) => key.split('\n').filter((line) => line !== '' && !line.startsWith('-----')));
  assert.deepEqual(
    secrets.filter((secret) => lines.some((line) => line.includes(secret))),
    [],
  );
  assert.equal(lines.length, 6);
});

test('a directory that cannot be written is named', async () => {
  const home = join(await directory('file'), 'tls');
  await writeFile(home, '');
  const record = await refused(() => make(home, ['192.0.2.10']));
  assert.equal(record.code, 'ERR_CERTIFICATE');
  assert.match(record.message, /^certificates cannot be written to \S+\/tls: it already exists/);
});

test('of a PEM text the certificates are taken, and nothing that stands around them goes on', async () => {
  const home = await directory('pem');
  await make(home, ['192.0.2.10']);
  const [ca, key] = [await readFile(join(home, 'ca.crt'), 'utf8'), await readFile(join(home, 'ca.key'), 'utf8')];
  assert.equal(pemOf(readCertificates(`a note\n${ca}\nanother\n${ca}`, 'x')), `${ca}${ca}`);
  const damaged = ca.replace(/\n[^-]{20}/, '\nAAAA');
  assert.equal(
    thrownBy(() => readCertificates(`${ca}${key}`, 'x')).message,
    'x contains a private key, but only certificates are expected',
  );
  assert.equal(thrownBy(() => readCertificates('nothing', 'x')).message, 'x contains no certificate');
  assert.match(thrownBy(() => readCertificates(damaged, 'x')).message, /^x contains a certificate that cannot be read: /);
});

test('a key behind a password, or none, is refused', async () => {
  const home = await directory('key');
  await make(home, ['192.0.2.10']);
  const args = ['pkcs8', '-topk8', '-in', join(home, 'ca.key'), '-passout', 'pass:x'];
  const locked = await output(execOnLinux, 'openssl', args);
  assert.equal(thrownBy(() => readPrivateKey(locked, 'x')).message, 'x is protected by a password, which nobody can type at boot');
  assert.match(thrownBy(() => readPrivateKey('nothing', 'x')).message, /^x contains no readable private key: /);
});

test('what a client would refuse a server for is said beforehand', async () => {
  const [home, other] = [await directory('claims'), await directory('stranger')];
  await make(home, ['192.0.2.10', 'node1.example.com']);
  await make(other, ['192.0.2.10']);
  const read = async (path: string) => readCertificates(await readFile(path, 'utf8'), path);
  const [ca, server, named, stranger] = [
    await read(join(home, 'ca.crt')),
    await read(join(home, '192.0.2.10.crt')),
    await read(join(home, 'node1.example.com.crt')),
    await read(join(other, 'ca.crt')),
  ];
  const address = readServerAddress('192.0.2.10');
  assert.ok('kind' in address);
  const now = new Date();
  const good = { chain: server, authorities: ca, address, now };
  const end = server[0]?.validToDate.toISOString();
  const begin = server[0]?.validFromDate.toISOString();
  assert.deepEqual(
    [
      serverFault(good),
      serverFault({ ...good, chain: [...server, ...ca], authorities: [...stranger, ...ca] }),
      serverFault({ ...good, chain: [] }),
      serverFault({ ...good, chain: ca }),
      serverFault({ ...good, chain: named }),
      serverFault({ ...good, authorities: stranger }),
      serverFault({ ...good, now: new Date(now.getTime() + 101 * DAY_MS) }),
      serverFault({ ...good, now: new Date(now.getTime() - DAY_MS) }),
    ],
    [
      undefined,
      undefined,
      'there is no certificate',
      'it is for no address, not for 192.0.2.10',
      'it is for DNS:node1.example.com, not for 192.0.2.10',
      'the CA has not issued it',
      `it expired at ${end}`,
      `it is not valid before ${begin}`,
    ],
  );
});

test('a server whose CA stands two certificates away is taken where those between come with it', async () => {
  const home = await directory('chain');
  const { root, middle, server } = await longChain(home);
  const address = { kind: 'ip', text: '192.0.2.10' } as const;
  const now = new Date();
  assert.deepEqual(
    [
      serverFault({ chain: [...server, ...middle], authorities: root, address, now }),
      serverFault({ chain: server, authorities: root, address, now }),
    ],
    [undefined, 'the CA has not issued it'],
  );
});

async function contents(home: string): Promise<Record<string, string>> {
  const names = (await readdir(home)).sort();
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await readFile(join(home, name), 'utf8')] as const)));
}

/** A CA, one that it has signed, and a server that the latter has signed, as a company's CA would give them. */
async function longChain(home: string) {
  const path = (name: string) => join(home, name);
  const openssl = (...args: readonly string[]) => output(execOnLinux, 'openssl', args);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  await writeFile(path('middle.ext'), 'basicConstraints=critical,CA:TRUE\n');
  await writeFile(path('server.ext'), 'subjectAltName=IP:192.0.2.10\n');
  await openssl('req', '-x509', ...newKey, '-subj', '/CN=root', '-keyout', path('root.key'), '-out', path('root.crt'));
  for (const [name, issuer] of [
    ['middle', 'root'],
    ['server', 'middle'],
  ] as const) {
    await openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', path(`${name}.key`), '-out', path(`${name}.csr`));
    const by = ['-CA', path(`${issuer}.crt`), '-CAkey', path(`${issuer}.key`), '-set_serial', '1', '-extfile', path(`${name}.ext`)];
    await openssl('x509', '-req', '-in', path(`${name}.csr`), ...by, '-out', path(`${name}.crt`));
  }
  const read = async (name: string) => readCertificates(await readFile(path(`${name}.crt`), 'utf8'), name);
  return { root: await read('root'), middle: await read('middle'), server: await read('server') };
}
