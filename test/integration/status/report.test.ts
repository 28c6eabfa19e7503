import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { ReportIndex } from '../../../agent/status/report.ts';
import { type MountNode, openMountNode } from '../../support/mount-node.ts';
import { mountSuite } from '../../support/mount-suite.ts';

/** Each is found nowhere else; the parts of a login are secrets, too. */
const PASSWORD = 'pw-5f1c9a77e0';
const LOGIN = Buffer.from(`robot:${PASSWORD}`).toString('base64');
const TOKEN = 'tk-88d1a0b3c2';
const PROXY = 'px-1204bb97aa';
const KEY = 'MHcCAQEEIKeyBytesKeyBytesKeyBytes7d3f';
const SECRETS = [PASSWORD, LOGIN, TOKEN, PROXY, KEY];

const LOGINS = JSON.stringify({ auths: { 'quay.io': { auth: LOGIN } } });
const ENV = {
  HOME: '/var/tmp/home',
  REGISTRY_AUTH_FILE: '/var/tmp/auth.json',
  HTTPS_PROXY: `http://user:${PROXY}@proxy.example:3128`,
  NO_PROXY: '*',
  REGISTRY_TOKEN: TOKEN,
};
const PEM = `-----BEGIN PRIVATE KEY-----\n${KEY}\n-----END PRIVATE KEY-----\n`;
/** Where a node has secrets, or somebody wrote one down. */
const FILES = {
  '/var/lib/kubelet/config.json': { content: LOGINS, mode: 0o600 },
  '/var/tmp/auth.json': { content: LOGINS, mode: 0o600 },
  '/etc/prestage-agent/tls/registry.key': { content: PEM, mode: 0o600 },
  '/etc/containers/certs.d/quay.io/client.key': { content: PEM, mode: 0o600 },
  '/etc/containers/registries.conf': `# password of the mirror: ${PASSWORD}\nunqualified-search-registries = ["quay.io"]\n`,
  '/etc/containers/containers.conf':
    `[containers]\ncgroups = "disabled"\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n# env = ["HTTPS_PROXY=${ENV.HTTPS_PROXY}", "API_TOKEN=${TOKEN}"]\n` +
    '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n',
  '/etc/crio/crio.conf.d/10-proxy': `[crio.image]\n# ${LOGIN}\nglobal_auth_file = "/var/lib/kubelet/config.json"\n`,
  '/etc/prestage-agent/launcher.env': `LABEL=data\nMIRROR_PASSWORD='${PASSWORD}'\n`,
};

describe('a report', () => {
  let node: MountNode;
  let scratch: string;
  const suite = mountSuite({
    prepare: async ({ fixture, disk, use }) => {
      scratch = join(fixture.work, 'report');
      await mkdir(scratch);
      node = use(await openMountNode(fixture, { files: FILES }));
      const run = await node.agent(['run', '--stage', 'discovery', '--label', disk.label, '--rewrite', 'yes'], { env: ENV });
      assert.equal(run.exitCode, 0, run.stderr);
      await node.output('sh', ['-c', 'echo "login $1 refused" >> /run/prestage-agent/registry/registry.log', 'sh', LOGIN]);
    },
  });
  const report = async (...args: readonly string[]): Promise<ReportIndex & { readonly path: string }> => {
    const { exitCode, stdout, stderr } = await node.agent(['report', '--output', 'json', ...args], { env: ENV });
    assert.equal(exitCode, 0, stderr);
    return JSON.parse(stdout);
  };
  /** Every file of a directory by its path in it. */
  const textsOf = async (directory: string): Promise<Readonly<Record<string, string>>> => {
    const entries = (await readdir(directory, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const paths = entries.map((entry) => join(entry.parentPath, entry.name)).toSorted();
    return Object.fromEntries(
      await Promise.all(paths.map(async (path) => [path.slice(directory.length + 1), await readFile(path, 'utf8')])),
    );
  };

  suite.it('holds status, records, settings, versions, mounts and the configuration of engines, and says what is in it', async () => {
    const directory = join(scratch, 'whole');
    const { parts, path } = await report('--directory', directory);
    assert.equal(path, directory);
    const texts = await textsOf(directory);
    assert.deepEqual(
      Object.keys(texts),
      ['index.json', ...parts.flatMap(({ name, fault }) => (fault === undefined ? [name] : []))].toSorted(),
    );
    for (const { name, sizeBytes } of parts.filter(({ fault }) => fault === undefined))
      assert.equal(Buffer.byteLength(texts[name] ?? ''), sizeBytes, name);
    const wanted = [
      'status.json',
      'places.txt',
      'disks/lsblk.json',
      'disks/losetup.json',
      'disks/mounts.txt',
      'disks/space.json',
      'tools/podman.txt',
      'tools/skopeo.txt',
      'tools/kernel.txt',
      'files/run/prestage-agent/state.json',
      'files/run/prestage-agent/store.json',
      'files/run/prestage-agent/registry/registry.log',
      'files/var/lib/prestage-agent/setup.json',
      'files/etc/prestage-agent/launcher.env',
      'files/etc/containers/registries.conf',
      'files/etc/containers/storage.conf',
      'files/etc/crio/crio.conf.d/10-proxy',
    ];
    assert.deepEqual(
      wanted.filter((name) => (texts[name] ?? '') === ''),
      [],
    );
    const status: { readonly status: { readonly readiness: string } } = JSON.parse(texts['status.json'] ?? '');
    assert.equal(status.status.readiness, 'ready');
    assert.match(texts['disks/mounts.txt'] ?? '', /\/var\/lib\/prestage-agent\/store .*squashfs/);
    assert.match(texts['files/etc/containers/registries.conf'] ?? '', /unqualified-search-registries/);
  });

  suite.it('has none of the secrets of the node, wherever they stand', async () => {
    const directory = join(scratch, 'secrets');
    await report('--directory', directory);
    const texts = await textsOf(directory);
    for (const [name, text] of Object.entries(texts))
      for (const secret of SECRETS) assert.equal(text.includes(secret), false, `${name}: ${secret}`);
    assert.deepEqual(
      Object.keys(texts).filter((name) => /auth\.json|config\.json$|\.key$|backup/.test(name)),
      [],
    );
    assert.match(texts['files/run/prestage-agent/registry/registry.log'] ?? '', /login \[redacted\] refused/);
    for (const name of ['index.json', 'status.json']) assert.doesNotThrow(() => JSON.parse(texts[name] ?? ''));
  });

  suite.it('is not the only place without them: nor are they in messages, state or records', async () => {
    const ended = await node.agent(['run', '--stage', 'discovery', '--label', suite.disk.label, '--rewrite', 'yes', '--output', 'json'], {
      env: { ...ENV, PRESTAGE_DEBUG: '1' },
    });
    const kept = await node.output('sh', [
      '-c',
      'grep -rlF "$@" /run/prestage-agent /var/lib/prestage-agent --exclude-dir=ram || true',
      'sh',
      ...SECRETS.flatMap((secret) => ['-e', secret]),
    ]);
    // What was in registries.conf before is in its backup, for root alone; and the line that this test has put into the log.
    const expected = ['/run/prestage-agent/registry/registry.log'];
    assert.deepEqual(
      kept.split('\n').filter((path) => path !== '' && !expected.includes(path)),
      [],
    );
    for (const secret of SECRETS) assert.equal(`${ended.stdout}${ended.stderr}`.includes(secret), false, secret);
  });

  suite.it('is packed into one file that only its owner reads', async () => {
    const file = join(scratch, 'report.tar.gz');
    await writeFile(join(scratch, 'other'), 'kept');
    await execOnLinux('ln', ['-s', join(scratch, 'other'), file]);
    const { parts } = await report('--output-file', file);
    assert.equal((await stat(file)).mode & 0o7777, 0o600);
    assert.equal(await readFile(join(scratch, 'other'), 'utf8'), 'kept');
    const listed = await output(execOnLinux, 'tar', ['-tzvf', file]);
    const lines = listed.split('\n');
    assert.equal(lines.length, 1 + parts.filter(({ fault }) => fault === undefined).length);
    assert.deepEqual(
      lines.filter((line) => !/^-rw------- .* prestage-report\/[^ ]+$/.test(line)),
      [],
    );
  });

  suite.it('changes nothing on the node, but that the registry logs that it was asked whether it is there', async () => {
    const places = '/etc /run /var/lib';
    const tree = async (): Promise<string> =>
      await node.output('sh', ['-c', `find ${places} -xdev -printf '%p %y %m %s %T@ %C@\\n' | grep -v registry.log | sort | sha256sum`]);
    const before = await tree();
    await report('--directory', join(scratch, 'again'));
    assert.equal(await tree(), before);
  });

  suite.it('of somebody who is not root has what may be read, and says what may not', async () => {
    await node.output('sh', ['-c', 'install -d -o 1000 -g 1000 /var/tmp/user; chmod 600 /run/prestage-agent/state.json']);
    const command = [
      '--reuid=1000',
      '--regid=1000',
      '--clear-groups',
      suite.fixture.executable,
      'report',
      '--directory',
      '/var/tmp/user/report',
      '--output',
      'json',
    ];
    const ended = await node.exec('setpriv', command, { env: { HOME: '/var/tmp/user' } });
    assert.equal(ended.exitCode, 0, ended.stderr);
    const { parts }: ReportIndex = JSON.parse(ended.stdout);
    const faultOf = (name: string): string | undefined => parts.find((part) => part.name === name)?.fault;
    assert.equal(faultOf('files/run/prestage-agent/state.json'), 'this user may not read it');
    assert.equal(faultOf('files/var/lib/prestage-agent/setup.json'), undefined);
    assert.equal(faultOf('files/etc/containers/storage.conf'), undefined);
    assert.equal(faultOf('tools/podman.txt'), undefined);
    assert.equal(
      await node.output('stat', ['-c', '%a %u', '/var/tmp/user/report', '/var/tmp/user/report/index.json']),
      '700 1000\n600 1000',
    );
  });

  suite.it('keeps of a log that has grown the end, and is bounded', async () => {
    await node.output('sh', [
      '-c',
      'yes "a line of the log" | head -c 40M > /run/prestage-agent/registry/registry.log; echo last >> /run/prestage-agent/registry/registry.log',
    ]);
    await node.output('sh', [
      '-c',
      'mkdir /etc/containers/registries.conf.d; for i in $(seq 40); do head -c 1M /dev/zero | tr "\\0" "#" > /etc/containers/registries.conf.d/$i.conf; done; mkfifo /etc/containers/registries.conf.d/fifo.conf',
    ]);
    const directory = join(scratch, 'large');
    const { parts } = await report('--directory', directory);
    const log = parts.find(({ name }) => name.endsWith('registry.log'));
    assert.deepEqual([log?.sizeBytes, log?.cutBytes, log?.fault], [0, undefined, 'left out: the report would exceed 16777216 bytes']);
    assert.equal(parts.find(({ name }) => name.endsWith('fifo.conf'))?.fault, 'it is not a regular file');
    const total = parts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    assert.ok(total > 10_000_000 && total <= 16_777_216, `${total}`);
    await node.output('sh', ['-c', 'rm /etc/containers/registries.conf.d/*.conf']);
    const smaller = await report('--directory', join(scratch, 'smaller'));
    const kept = smaller.parts.find(({ name }) => name.endsWith('registry.log'));
    assert.equal(kept?.sizeBytes, 1_048_576);
    assert.ok((kept?.cutBytes ?? 0) >= 39 * 1_048_576, `${kept?.cutBytes}`);
    assert.match(await readFile(join(scratch, 'smaller/files/run/prestage-agent/registry/registry.log'), 'utf8'), /last\n/);
  });

  suite.it('goes into a directory of its own, and to one place', async () => {
    const full = await node.agent(['report', '--directory', scratch]);
    assert.deepEqual([full.exitCode, full.stderr.split('\n')[0]], [2, `error: ${scratch} is not empty`]);
    const both = await node.agent(['report', '--directory', scratch, '--output-file', 'x']);
    assert.deepEqual([both.exitCode, both.stderr.split('\n')[0]], [2, 'error: --output-file and --directory cannot be combined']);
    const nowhere = await node.agent(['report', '--output-file', '/proc/report.tar.gz']);
    assert.deepEqual([nowhere.exitCode, /ERR_REPORT/.test(nowhere.stderr)], [4, true]);
  });
});
