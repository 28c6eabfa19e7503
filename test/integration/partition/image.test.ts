import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execa } from 'execa';
import { plainAct } from '../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { BUNDLE_FILE } from '../../../agent/model/bundle.ts';
import { openPartition } from '../../../agent/partition/open.ts';
import { disksUnavailable } from '../../support/disk.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { type FactoryBench, loopsOfFile, makeFactoryBench, sealFiles } from '../../support/prestage.ts';

inOwnMounts(import.meta.url);

const MIB = 1024 * 1024;
const LABEL = `image-${process.pid}`;
/** Any user but root. */
const NOBODY = 65_534;
const DEEP = 'store/discovery.mirror/docker/registry/v2/repositories/quay.io/openshift/release/_manifests/revisions/sha256';
const FILES = {
  'archives/a b=c@sha256_0a.tgz': 'archive',
  [`${DEEP}/${'0a'.repeat(32)}/link`]: 'deep',
  'archives/empty.tgz': '',
  'archives/holes.tgz': new Uint8Array(9 * MIB),
  'archives/big.tgz': new Uint8Array(5 * MIB + 3).fill(7),
  'prestage-agent': 'executable',
};

describe('partition image', async () => {
  const reason = await disksUnavailable();
  const withDisks = (title: string, act: () => Promise<void>): void => {
    it(title, { skip: reason ?? false }, act);
  };
  let bench: FactoryBench;
  let bundle = '';
  let expected: ReadonlyMap<string, string>;

  before(async () => {
    bench = await makeFactoryBench();
    bundle = join(bench.work, 'bundle');
    await sealFiles(bundle, FILES);
    await writeFile(join(bundle, 'not-listed'), 'x');
    const paths = [...Object.keys(FILES), BUNDLE_FILE];
    expected = new Map(
      await Promise.all(paths.map(async (path) => [path, (await readFile(join(bundle, path))).toString('latin1')] as const)),
    );
  });
  after(async () => await bench[Symbol.asyncDispose]());

  const makeImage = (path: string, ...args: readonly string[]) =>
    bench.prestage('partition', 'image', path, '--bundle', bundle, '--label', LABEL, ...args);
  const host = () => linuxHost({ root: bench.root, env: {}, log: () => undefined });
  const filesBelow = async (top: string): Promise<ReadonlyMap<string, string>> => {
    const entries = (await readdir(top, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const paths = entries.map((entry) => join(entry.parentPath, entry.name));
    return new Map(
      await Promise.all(paths.map(async (path) => [path.slice(top.length + 1), (await readFile(path)).toString('latin1')] as const)),
    );
  };
  /** The image as a disk of this machine, as virtual media or a written disk would be. */
  const attached = async (path: string, act: (device: string) => Promise<void>): Promise<void> => {
    const device = (await output(execOnLinux, 'losetup', ['-frP', '--show', path])).trim();
    try {
      await execOnLinux('partx', ['--add', device]);
      await act(device);
    } finally {
      await execOnLinux('partx', ['--delete', device]);
      await output(execOnLinux, 'losetup', ['--detach', device]);
    }
  };
  /** The partition as the node opens it. */
  const nodeReads = async (path: string): Promise<{ readonly fileSystem: string; readonly files: ReadonlyMap<string, string> }> => {
    let found: { readonly fileSystem: string; readonly files: ReadonlyMap<string, string> } | undefined;
    await attached(path, async () => {
      const target = join(bench.work, 'mount');
      await using partition = await openPartition(host(), { label: LABEL, waitSeconds: 0, target }, plainAct);
      found = { fileSystem: partition.fileSystem, files: await filesBelow(partition.path) };
    });
    assert.ok(found);
    return found;
  };
  /** Without root, in a directory of that user. */
  const asNobody = async (...args: readonly string[]) => {
    const result = await execa(bench.command[0], ['partition', 'image', ...args, '--bundle', bundle, '--label', LABEL], {
      reject: false,
      uid: NOBODY,
      gid: NOBODY,
      env: { ...bench.env, HOME: bench.work },
    });
    return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode };
  };
  const ownDirectory = async (): Promise<string> => {
    await output(execOnLinux, 'chmod', ['a+rx', bench.work]);
    const directory = await mkdtemp(join(bench.work, 'nobody-'));
    await output(execOnLinux, 'chown', [`${NOBODY}:${NOBODY}`, directory]);
    return directory;
  };

  withDisks('makes a disk with XFS that a node opens by its label, and leaves nothing beside it', async () => {
    const path = join(bench.work, 'disk.img');
    const { stdout, exitCode, stderr } = await makeImage(path);
    assert.equal(exitCode, 0, stderr);
    assert.match(stdout, /^.*disk\.img: a disk with xfs, \d+\.\d MiB, 7 files, all read back$/);
    assert.deepEqual(await nodeReads(path), { fileSystem: 'xfs', files: expected });
    assert.equal(await loopsOfFile(path), '');
    assert.deepEqual(
      (await readdir(bench.work)).filter((name) => name.includes('disk.img')),
      ['disk.img'],
    );
  });

  withDisks('makes a disk with ext4 without root and without a loop device, with the files of the manifest alone', async () => {
    const directory = await ownDirectory();
    const path = join(directory, 'disk.img');
    const { stdout, exitCode, stderr } = await asNobody(path, '--output', 'json');
    assert.equal(exitCode, 0, stderr);
    const { fileSystem, isWritten } = JSON.parse(stdout);
    assert.deepEqual([fileSystem, isWritten], ['ext4', true]);
    assert.deepEqual(await nodeReads(path), { fileSystem: 'ext4', files: expected });
    assert.deepEqual(await readdir(directory), ['disk.img']);
    const check = await execOnLinux('e2fsck', ['-fn', `${path}?offset=${MIB}`]);
    assert.equal(check.exitCode, 0, check.stdout);
  });

  it('makes virtual media without root: every name and byte is in the image, and root owns it all', async () => {
    const directory = await ownDirectory();
    const path = join(directory, 'data.iso');
    const { exitCode, stderr } = await asNobody(path, '--format', 'iso');
    assert.equal(exitCode, 0, stderr);
    const extracted = join(directory, 'extracted');
    await mkdir(extracted);
    await output(execOnLinux, 'xorriso', ['-osirrox', 'on', '-indev', path, '-extract', '/', extracted]);
    assert.deepEqual(await filesBelow(extracted), expected);
    assert.equal((await stat(join(extracted, 'prestage-agent'))).mode & 0o777, 0o555);
    const listed = await output(execOnLinux, 'xorriso', ['-indev', path, '-find', '/', '-exec', 'lsdl', '--']);
    const owners = listed.split('\n').flatMap((line) => /^[-d]\S+ +\d+ +(\S+ +\S+) /.exec(line)?.[1] ?? []);
    assert.deepEqual([...new Set(owners.map((owner) => owner.replaceAll(/ +|root/g, (text) => (text === 'root' ? '0' : ' '))))], ['0 0']);
    assert.deepEqual((await readdir(directory)).toSorted(), ['data.iso', 'extracted']);
  });

  it('makes the same virtual media of the same bundle and SOURCE_DATE_EPOCH', async () => {
    const sums = [];
    for (const name of ['one.iso', 'two.iso']) {
      const path = join(bench.work, name);
      const { exitCode, stderr } = await execa(bench.command[0], ['partition', 'image', path, '--bundle', bundle, '--format', 'iso'], {
        reject: false,
        env: { ...bench.env, SOURCE_DATE_EPOCH: '1700000000' },
      });
      assert.equal(exitCode, 0, stderr);
      sums.push((await output(execOnLinux, 'sha256sum', [path])).split(' ')[0]);
    }
    assert.equal(sums[0], sums[1]);
  });

  withDisks('makes virtual media that the node finds by their volume label, as a whole disk', async () => {
    const path = join(bench.work, 'data.iso');
    assert.equal((await makeImage(path, '--format', 'iso')).exitCode, 0);
    if (!/\biso9660$/m.test(await readFile('/proc/filesystems', 'utf8'))) {
      console.log('this kernel has no ISO 9660: the image is found as such here, and not mounted');
      await attached(path, async (device) => {
        const request = { label: LABEL, waitSeconds: 0, target: join(bench.work, 'mount') };
        const message = new RegExp(`^${device} \\(iso9660\\) cannot be mounted .*unknown filesystem type`);
        await assert.rejects(openPartition(host(), request, plainAct), { code: 'ERR_PARTITION_MOUNT', message });
      });
      return;
    }
    assert.deepEqual(await nodeReads(path), { fileSystem: 'iso9660', files: expected });
  });

  it('finds bytes that the program which made the image got wrong, and leaves no image', async () => {
    const path = join(bench.work, 'wrong.iso');
    await bench.wrap(
      'xorriso',
      `case "$*" in *mkisofs*) "$REAL" "$@"; sed -i 's/executable/EXECUTABLE/' $WORK/.wrong.iso.partial; exit 0;; esac\nexec $REAL "$@"`,
    );
    const { stderr, exitCode } = await makeImage(path, '--format', 'iso');
    await bench.wrap('xorriso', '');
    assert.deepEqual([exitCode, /ERR_[A-Z_]+/.exec(stderr)?.[0]], [4, 'ERR_PARTITION_WRITE']);
    assert.match(stderr, /prestage-agent has the sha256/);
    assert.deepEqual(
      (await readdir(bench.work)).filter((name) => name.includes('wrong')),
      [],
    );
  });

  it('replaces an image only where that is said, and says what it would make in a dry run', async () => {
    const path = join(bench.work, 'there.iso');
    await writeFile(path, 'mine');
    const first = async (...args: readonly string[]) =>
      (await makeImage(path, '--format', 'iso', ...args)).stderr.split('\n').find((line) => line.startsWith('error'));
    assert.equal(await first(), `error: ${path} already exists`);
    const dry = await makeImage(path, '--format', 'iso', '--replace', '--dry-run');
    assert.match(dry.stdout, /there\.iso: ISO 9660, about \d+\.\d MiB, 7 files\nnothing was written$/);
    assert.equal(await readFile(path, 'utf8'), 'mine');
    assert.equal(await first('--replace'), undefined);
    assert.ok((await stat(path)).size > MIB);
    await rm(path);
    await mkdir(path);
    assert.equal(await first('--replace'), `error: ${path} exists and is not a regular file`);
  });

  it('refuses a bundle whose bytes are not those of its manifest, and a format that it does not know', async () => {
    const bad = join(bench.work, 'bad');
    await sealFiles(bad, { 'archives/a.tgz': 'good', 'archives/b.tgz': 'good' });
    await writeFile(join(bad, 'archives/b.tgz'), 'evil');
    const image = (...args: readonly string[]) =>
      bench.prestage('partition', 'image', join(bench.work, 'bad.iso'), '--bundle', bad, ...args);
    const wrong = await image('--format', 'iso');
    assert.deepEqual([wrong.exitCode, /ERR_[A-Z_]+/.exec(wrong.stderr)?.[0]], [6, 'ERR_BUNDLE_FILE']);
    const unknown = await image('--format', 'qcow2');
    assert.deepEqual([unknown.exitCode, unknown.stderr.split('\n')[0]], [2, 'error: --format must be disk or iso, got "qcow2"']);
  });
});
