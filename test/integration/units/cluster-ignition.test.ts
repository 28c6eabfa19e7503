import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parse } from 'yaml';
import { makeCertificates } from '../../../agent/certificates/certificates.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { BUNDLE_FILE, type Bundle, formatBundle, signaturePath } from '../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { type IgnitionOptions, runIgnition } from '../../../agent/units/ignition.ts';
import { ignitedRoot } from '../../support/ignited.ts';
import { author, PIN } from '../../support/ignition.ts';
import { seal } from '../../support/sealed-bundle.ts';

let scratch = '';
let tls = '';
before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'cluster-ignition-'));
  tls = join(scratch, 'tls');
  await makeCertificates(author, { directory: tls, addresses: ['192.0.2.10'], days: 30 });
  await seal({ directory: join(scratch), stage: 'installed', images: [], payloads: [] });
});
after(() => rm(scratch, { recursive: true, force: true }));

async function rootOf(options: Partial<IgnitionOptions>): Promise<string> {
  const { text } = await runIgnition({ stage: 'installed', ...options }, author);
  return await ignitedRoot(join(scratch, 'root-'), text);
}

/** Every file below a root with its mode, but for the one in which Ignition says that it was there. */
function filesBelow(root: string): Readonly<Record<string, string>> {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== '.ignition-result.json',
  );
  const paths = entries.map((entry) => join(entry.parentPath, entry.name)).sort();
  return Object.fromEntries(paths.map((path) => [path.slice(root.length), (statSync(path).mode & 0o7777).toString(8)]));
}

test('the real Ignition puts certificate, key and CA on a serving node, and the key is for root alone', async () => {
  const serve = { address: '192.0.2.10', port: 5000, certificate: join(tls, '192.0.2.10.crt'), key: join(tls, '192.0.2.10.key') };
  const root = await rootOf({ agentSha256: PIN, serve });
  const { '/etc/systemd/system-preset/20-ignition.preset': preset, ...files } = filesBelow(root);
  assert.ok(preset);
  assert.deepEqual(files, {
    '/etc/prestage-agent/launcher.env': '644',
    '/etc/prestage-agent/tls/ca.crt': '644',
    '/etc/prestage-agent/tls/registry.crt': '644',
    '/etc/prestage-agent/tls/registry.key': '600',
    '/etc/systemd/system/prestage-agent-installed.service': '644',
    '/usr/local/bin/prestage-launcher': '755',
  });
  const there = join(root, 'etc/prestage-agent/tls');
  const args = ['verify', '-CAfile', join(there, 'ca.crt'), '-verify_ip', '192.0.2.10', join(there, 'registry.crt')];
  await output(execOnLinux, 'openssl', args);
  const unit = readFileSync(join(root, 'etc/systemd/system/prestage-agent-installed.service'), 'utf8');
  assert.match(unit, / --delivery registry --serve cluster --serve-address 192\.0\.2\.10 --registry-port 5000\n/);
});

test('the real Ignition puts mirrors and CA on a node that pulls from others, and not a file more', async () => {
  const clients = { mirrors: ['192.0.2.10:305', 'node1.example.com:305'], ca: join(tls, 'ca.crt'), bundle: scratch };
  for (const spec of ['3.1.0', '3.2.0'] as const) {
    const root = await rootOf({ spec, clients });
    assert.deepEqual(filesBelow(root), {
      '/etc/containers/certs.d/192.0.2.10:305/prestage-ca.crt': '644',
      '/etc/containers/certs.d/node1.example.com:305/prestage-ca.crt': '644',
      '/etc/containers/registries.conf.d/50-prestage.conf': '644',
    });
  }
});

test('the real Ignition puts the places of signatures on a node that pulls signed images from others', async () => {
  const digest = digestOf('signature');
  const image = { reference: 'quay.io/a/b:1', names: ['quay.io/a/b:1'], manifestDigest: digest, compressedBytes: 1, unpackedBytes: 1 };
  const bundle: Bundle = {
    apiVersion: 'prestage-agent/v1',
    kind: 'Bundle',
    release: '4.22.0',
    architecture: 'amd64',
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: { name: 'test', version: '0' },
    stages: { installed: { images: [{ ...image, signatures: [{ kind: 'sigstore', subject: digest, manifest: digest }] }] } },
    payloads: [],
    files: [{ path: signaturePath(digest), sizeBytes: 1, sha256: hexOf(digest) }],
  };
  const signed = join(scratch, 'signed');
  await mkdir(signed);
  await writeFile(join(signed, BUNDLE_FILE), formatBundle(bundle));
  const mirrors = ['192.0.2.10:305', 'node1.example.com:305'];
  const root = await rootOf({ clients: { mirrors, ca: join(tls, 'ca.crt'), bundle: signed } });
  const file = '/etc/containers/registries.d/50-prestage.yaml';
  assert.equal(filesBelow(root)[file], '644');
  assert.deepEqual(parse(readFileSync(join(root, file), 'utf8')), {
    docker: Object.fromEntries(mirrors.map((mirror) => [mirror, { 'use-sigstore-attachments': true }])),
  });
});
