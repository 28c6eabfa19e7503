import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../../../agent/model/bundle.ts';
import { disksUnavailable, fillDisk, makeDisk, mountPointsOf, type TestDisk } from '../../support/disk.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { type FactoryBench, makeFactoryBench, onTerminal, sealFiles } from '../../support/prestage.ts';

inOwnMounts(import.meta.url);

const LABEL = `write-${process.pid}`;
const MIB = 1024 * 1024;
const OLD = {
  'archives/kept.tgz': 'the same in both',
  'archives/changed.tgz': 'of the old bundle',
  'archives/old.tgz': 'only in the old bundle',
  'gone/with/its/folders': 'x',
  'prestage-agent': 'executable',
};
const NEW = {
  'archives/kept.tgz': 'the same in both',
  'archives/changed.tgz': 'of the new one.',
  'archives/big.tgz': new Uint8Array(24 * MIB).fill(7),
  'bin/empty': '',
  'prestage-agent': 'executable',
};

describe('partition write', async () => {
  const reason = await disksUnavailable();
  const withDisks = (title: string, act: () => Promise<void>): void => {
    it(title, { skip: reason ?? false }, act);
  };
  let bench: FactoryBench;
  let disk: TestDisk;
  let serial = '';
  let [older, newer] = ['', ''];

  before(async () => {
    bench = await makeFactoryBench();
    [older, newer] = [join(bench.work, 'old'), join(bench.work, 'new')];
    await sealFiles(older, OLD);
    await sealFiles(newer, NEW);
    if (reason !== undefined) return;
    disk = await makeDisk({ directory: bench.work, label: LABEL, partitionMiB: 320 });
    serial = (await output(execOnLinux, 'losetup', ['--noheadings', '--output', 'BACK-FILE', disk.device])).trim();
  });
  after(async () => {
    if (reason === undefined) await disk[Symbol.asyncDispose]();
    await bench[Symbol.asyncDispose]();
  });
  /** Every test begins with an empty partition. */
  beforeEach(async () => {
    await bench.reboot();
    if (reason === undefined) await output(execOnLinux, 'mkfs.xfs', ['-q', '-f', disk.partition]);
  });

  const write = (bundle: string, ...args: readonly string[]) =>
    bench.prestage('partition', 'write', bundle, disk.device, '--label', LABEL, ...args);
  const agreed = () => ['--yes', '--expect-serial', serial];
  const data = async (bundle: string, ...args: readonly string[]) => {
    const { stdout, stderr, exitCode } = await write(bundle, ...args, '--output', 'json');
    assert.equal(exitCode, 0, stderr);
    return JSON.parse(stdout);
  };
  /** The whole tree on the partition, with content. */
  const tree = async (): Promise<Record<string, string>> => {
    const found: Record<string, string> = {};
    await fillDisk(disk, bench.work, async (top) => {
      for (const entry of await readdir(top, { recursive: true, withFileTypes: true })) {
        const path = join(entry.parentPath, entry.name);
        if (!entry.isDirectory()) found[path.slice(top.length + 1)] = entry.isFile() ? digest(await readFile(path)) : 'link';
        else if ((await readdir(path)).length === 0) found[`${path.slice(top.length + 1)}/`] = '';
      }
    });
    return found;
  };
  const treeOf = async (bundle: string): Promise<Record<string, string>> => {
    const files: readonly { readonly path: string }[] = JSON.parse(await readFile(join(bundle, BUNDLE_FILE), 'utf8')).files;
    const paths = [...files.map((file) => file.path), BUNDLE_FILE];
    return Object.fromEntries(await Promise.all(paths.map(async (path) => [path, digest(await readFile(join(bundle, path)))] as const)));
  };
  /** What a node says about the partition; a whole bundle ends in ERR_PAYLOAD_MISSING here, for it has no image list. */
  const nodeSays = async (): Promise<string | undefined> => {
    const { stdout } = await bench.prestage(
      'run',
      '--stage',
      'discovery',
      '--dry-run',
      '--label',
      LABEL,
      '--device-wait',
      '0',
      '--output',
      'json',
    );
    return JSON.parse(stdout).error?.code;
  };

  withDisks('copies a bundle, reads it back, keeps the executable executable, and leaves nothing mounted', async () => {
    const { stdout, exitCode } = await write(newer);
    assert.deepEqual(
      [stdout, exitCode],
      [`${disk.device} (${disk.partition}) holds the bundle: 5 files, 5 copied (24.0 MiB), all read back`, 0],
    );
    assert.deepEqual(await mountPointsOf(disk.partition), []);
    assert.deepEqual(await tree(), await treeOf(newer));
    await fillDisk(disk, bench.work, async (top) => {
      const mode = async (path: string) => (await stat(join(top, path))).mode & 0o777;
      assert.deepEqual([await mode('prestage-agent'), await mode(BUNDLE_FILE), await mode('bin/empty')], [0o755, 0o644, 0o644]);
    });
  });

  withDisks('takes the partition itself by its name, and finds it done the second time', async () => {
    await write(newer);
    const again = await bench.prestage('partition', 'write', newer, disk.partition, '--label', LABEL);
    assert.deepEqual([again.stdout, again.exitCode], [`${disk.partition} already holds the bundle: 5 files read, nothing written`, 0]);
    const other = await bench.prestage('partition', 'write', newer, disk.partition, '--label', 'other');
    assert.deepEqual(
      [other.stderr.split('\n')[0], other.exitCode],
      [`error: ${disk.partition} has no partition with the GPT label "other"; labels seen: "${LABEL}" (${disk.partition})`, 5],
    );
  });

  withDisks(
    'gives up another bundle only where a person agrees; then what is the same stays, and what is obsolete goes with its folders',
    async () => {
      await write(older);
      const refused = await write(newer);
      assert.equal(refused.exitCode, 2);
      assert.match(refused.stderr, /^LOST: the existing bundle of release 4\.14\.0, replaced by the bundle of release 4\.14\.0$/m);
      assert.match(refused.stderr, /^ {2}ERR_NOT_CONFIRMED;/m);
      assert.deepEqual(await tree(), await treeOf(older));
      const { copy, keep, replace, obsolete, isWritten } = await data(newer, ...agreed());
      assert.deepEqual(
        { copy, keep, replace, obsolete, isWritten },
        {
          copy: ['archives/big.tgz', 'archives/changed.tgz', 'bin/empty'],
          keep: 2,
          replace: ['archives/changed.tgz'],
          obsolete: ['archives/old.tgz', 'gone/with/its/folders'],
          isWritten: true,
        },
      );
      assert.deepEqual(await tree(), await treeOf(newer));
    },
  );

  withDisks('asks on a terminal for the name of the disk', async () => {
    await write(older);
    const args = ['partition', 'write', newer, disk.device, '--label', LABEL];
    assert.equal((await onTerminal(bench, args, 'no')).exitCode, 2);
    assert.deepEqual(await tree(), await treeOf(older));
    assert.equal((await onTerminal(bench, args, disk.device)).exitCode, 0);
    assert.deepEqual(await tree(), await treeOf(newer));
  });

  withDisks('warns of a file system that nodes of the release cannot be expected to mount, and writes', async () => {
    await output(execOnLinux, 'mkfs.xfs', ['-q', '-f', '-i', 'nrext64=1', disk.partition]);
    const { stderr, exitCode } = await write(older);
    assert.equal(exitCode, 0, stderr);
    assert.match(
      stderr,
      /\S+: older OpenShift releases may be unable to mount this XFS, because of: nrext64 \(from 4\.16 on\); to create it again/,
    );
    assert.deepEqual(await tree(), await treeOf(older));
  });

  withDisks('leaves the files of others alone', async () => {
    await write(older);
    await fillDisk(disk, bench.work, async (top) => await writeFile(join(top, 'archives/notes.txt'), 'mine'));
    await write(newer, ...agreed());
    assert.deepEqual(await tree(), { ...(await treeOf(newer)), 'archives/notes.txt': digest(Buffer.from('mine')) });
  });

  withDisks('mends a file whose bytes have changed while its size has not, without asking', async () => {
    await write(older);
    await fillDisk(disk, bench.work, async (top) => await writeFile(join(top, 'archives/changed.tgz'), 'Of the old bundle'));
    const { copy, isWritten } = await data(older);
    assert.deepEqual({ copy, isWritten }, { copy: ['archives/changed.tgz'], isWritten: true });
    assert.deepEqual(await tree(), await treeOf(older));
  });

  withDisks('changes nothing in a dry run', async () => {
    await write(older);
    const before = await output(execOnLinux, 'sha256sum', [disk.partition]);
    const { isWritten, copy } = await data(newer, '--dry-run');
    assert.deepEqual([isWritten, copy.length], [false, 3]);
    assert.equal(await output(execOnLinux, 'sha256sum', [disk.partition]), before);
  });

  withDisks('refuses a bundle that does not fit before it touches anything, and says when the earlier one has to go first', async () => {
    const [half, other] = [join(bench.work, 'half'), join(bench.work, 'other-half')];
    await sealFiles(half, { 'archives/a.tgz': new Uint8Array(160 * MIB) });
    await sealFiles(other, { 'archives/b.tgz': new Uint8Array(160 * MIB).fill(1) });
    await write(half);
    const { stderr, exitCode } = await write(other, ...agreed());
    assert.equal(exitCode, 7);
    assert.match(stderr, /ERR_SPACE_PARTITION; next: Use --prune-first: it first removes 160\.0 MiB of the earlier bundle/);
    assert.deepEqual(await tree(), await treeOf(half));
    assert.equal((await write(other, ...agreed(), '--prune-first')).exitCode, 0);
    assert.deepEqual(await tree(), await treeOf(other));
    await rm(half, { recursive: true });
    await rm(other, { recursive: true });
  });

  withDisks('refuses a bundle that is not whole: unfinished, a file short, a file too many bytes, other bytes', async () => {
    const bad = join(bench.work, 'bad');
    const first = async (change: () => Promise<void>) => {
      await rm(bad, { recursive: true, force: true });
      await cp(older, bad, { recursive: true });
      await change();
      const { stderr, exitCode } = await write(bad);
      return [exitCode, /ERR_[A-Z_]+/.exec(stderr)?.[0]];
    };
    assert.deepEqual(await first(() => writeFile(join(bad, PARTIAL_FILE), '')), [6, 'ERR_BUNDLE_PARTIAL']);
    assert.deepEqual(await first(() => rm(join(bad, 'prestage-agent'))), [6, 'ERR_BUNDLE_FILE']);
    assert.deepEqual(await first(() => writeFile(join(bad, 'archives/old.tgz'), 'longer'.repeat(9))), [6, 'ERR_BUNDLE_FILE']);
    assert.deepEqual(await tree(), {});
    assert.deepEqual(await first(() => writeFile(join(bad, 'archives/old.tgz'), 'ONLY in the old bundle')), [6, 'ERR_BUNDLE_FILE']);
    assert.equal(await nodeSays(), 'ERR_BUNDLE_PARTIAL');
    assert.equal((await write(older)).exitCode, 0);
    assert.deepEqual(await tree(), await treeOf(older));
  });

  withDisks('writes through no link that lies on the partition', async () => {
    const outside = join(bench.work, 'outside');
    await mkdir(outside);
    await fillDisk(disk, bench.work, async (top) => await symlink(outside, join(top, 'archives')));
    const { stderr, exitCode } = await write(newer);
    assert.deepEqual([exitCode, /ERR_[A-Z_]+/.exec(stderr)?.[0]], [4, 'ERR_PARTITION_WRITE']);
    assert.match(stderr, /archives is not a directory on the partition itself/);
    assert.deepEqual(await readdir(outside), []);
  });

  withDisks('removes nothing through a link: the list of an unfinished write cannot lead out either', async () => {
    const outside = join(bench.work, 'precious');
    await mkdir(outside);
    await writeFile(join(outside, 'file'), 'precious');
    const files = ['link/file', '../../precious/file'].map((path) => ({ path, sizeBytes: 1 }));
    for (const noted of [files, files.slice(0, 1)]) {
      await fillDisk(disk, bench.work, async (top) => {
        await rm(join(top, 'link'), { force: true });
        await symlink(outside, join(top, 'link'));
        await writeFile(join(top, PARTIAL_FILE), JSON.stringify({ apiVersion: 'prestage-agent/v1', kind: 'PartialBundle', files: noted }));
      });
      assert.equal((await write(older)).exitCode, 0);
      assert.equal(await readFile(join(outside, 'file'), 'utf8'), 'precious');
    }
  });

  withDisks('finds a bad disk when it reads back, and the bundle then counts as unfinished', async () => {
    // Between the last write and the reading back, one byte changes on the disk.
    await bench.wrap(
      'blockdev',
      `case "$*" in *flushbufs*) mkdir -p $WORK/m; mount ${disk.partition} $WORK/m; printf X | dd of=$WORK/m/archives/big.tgz bs=1 seek=9999 conv=notrunc status=none; umount $WORK/m;; esac\nexec $REAL "$@"`,
    );
    const { stderr, exitCode } = await write(newer);
    await bench.wrap('blockdev', '');
    assert.deepEqual([exitCode, /ERR_[A-Z_]+/.exec(stderr)?.[0]], [6, 'ERR_BUNDLE_FILE']);
    assert.match(stderr, /big\.tgz has the sha256/);
    assert.equal(await nodeSays(), 'ERR_BUNDLE_PARTIAL');
    assert.equal((await write(newer)).exitCode, 0);
    assert.deepEqual(await tree(), await treeOf(newer));
  });

  withDisks('says what a disk that dies under it did, and goes on when it is back', async () => {
    await bench.wrap('sync', 'for top; do :; done\nxfs_io -x -c shutdown "$top"\nexec $REAL "$@"');
    const { stderr, exitCode } = await write(newer);
    await bench.wrap('sync', '');
    assert.deepEqual([exitCode, /ERR_[A-Z_]+/.exec(stderr)?.[0]], [4, 'ERR_PARTITION_WRITE']);
    assert.deepEqual(await mountPointsOf(disk.partition), []);
    assert.equal(await nodeSays(), 'ERR_BUNDLE_PARTIAL');
    assert.equal((await write(newer)).exitCode, 0);
    assert.deepEqual(await tree(), await treeOf(newer));
  });

  withDisks('comes to an end at SIGTERM, with the partition released', async () => {
    const child = spawn(bench.command[0], ['partition', 'write', newer, disk.device, '--label', LABEL], {
      env: { ...process.env, ...bench.env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      const isCopying = !stderr.includes('copying') && `${stderr}${chunk.toString()}`.includes('copying');
      stderr += chunk.toString();
      if (isCopying) child.kill('SIGTERM');
    });
    const [code] = await once(child, 'close');
    assert.equal(code, 11, stderr);
    assert.deepEqual(await mountPointsOf(disk.partition), []);
    assert.equal(await nodeSays(), 'ERR_BUNDLE_PARTIAL');
    assert.equal((await write(newer)).exitCode, 0);
    assert.deepEqual(await tree(), await treeOf(newer));
  });

  /** Where SIGKILL strikes: before the Nth call of a program. Mounts: look, mark, copy, read back, unmark. */
  for (const { program, nth, says } of [
    { program: 'mount', nth: 2, says: 'whole' },
    { program: 'mount', nth: 3, says: 'partial' },
    { program: 'sync', nth: 1, says: 'partial' },
    { program: 'sync', nth: 2, says: 'partial' },
    { program: 'blockdev', nth: 1, says: 'partial' },
    { program: 'mount', nth: 4, says: 'partial' },
    { program: 'mount', nth: 5, says: 'partial' },
    { program: 'umount', nth: 5, says: 'whole' },
  ]) {
    withDisks(`killed before its ${program} number ${nth}, the partition counts as ${says}, and the same command finishes it`, async () => {
      await write(older);
      await rm(join(bench.work, 'calls'), { force: true });
      await bench.wrap(
        program,
        `echo >> $WORK/calls\n[ $(wc -l < $WORK/calls) != ${nth} ] || { kill -KILL $PPID; exit 1; }\nexec $REAL "$@"`,
      );
      const { exitCode } = await write(newer, ...agreed());
      await bench.wrap(program, '');
      assert.equal(exitCode, 137);
      await bench.reboot();
      assert.equal(await nodeSays(), says === 'partial' ? 'ERR_BUNDLE_PARTIAL' : 'ERR_PAYLOAD_MISSING');
      assert.equal((await write(newer, ...agreed())).exitCode, 0);
      assert.deepEqual(await tree(), await treeOf(newer));
      assert.deepEqual(await mountPointsOf(disk.partition), []);
    });
  }

  withDisks(
    'killed while it copies, it leaves a partial bundle; the next write takes the half-written file away and unmounts what was left',
    async () => {
      const child = spawn(bench.command[0], ['partition', 'write', newer, disk.device, '--label', LABEL], {
        env: { ...process.env, ...bench.env },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      child.stderr.on('data', (chunk: Buffer) => {
        if (chunk.toString().includes('copying')) child.kill('SIGKILL');
      });
      await once(child, 'close');
      assert.equal((await mountPointsOf(disk.partition)).length, 1);
      assert.equal((await write(newer)).exitCode, 0);
      assert.deepEqual(await mountPointsOf(disk.partition), []);
      assert.deepEqual(await tree(), await treeOf(newer));
    },
  );
});

function digest(bytes: Buffer): string {
  return bytes.length < 100 ? bytes.toString() : `${bytes.length} bytes, ${bytes[0]} to ${bytes.at(-1)}`;
}
