import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { makeSandbox, mountPointsBelow, type Sandbox, statesOf, waitFor } from '../../support/agent.ts';
import { copyToDisk, type DiskSpec, makeDisk, mountPointsOf, type TestDisk } from '../../support/disk.ts';
import { assertLoaded, assertNothingLeft } from '../../support/loaded.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { makeTinyBundle, type TinyBundle } from '../../support/tiny-bundle.ts';

inOwnMounts(import.meta.url);

const LABEL = `partition-${process.pid}`;
const SLOW = 'echo "$*" >>"$LOG"; sleep 2; exec "$REAL" "$@"';

describe('the data partition', () => {
  let home: Sandbox;
  let bundle: TinyBundle;
  let disk: TestDisk;
  let sandbox: Sandbox;
  before(async () => {
    home = await makeSandbox();
    bundle = await makeTinyBundle(home.work);
    disk = await makeDisk({ directory: home.work, label: LABEL, partitionMiB: 320 });
    await copyToDisk(disk, home.work, bundle.directory);
  });
  beforeEach(async () => {
    await sandbox?.[Symbol.asyncDispose]();
    sandbox = await makeSandbox();
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await disk[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const otherDisk = async (spec: Partial<DiskSpec>) =>
    await makeDisk({ directory: home.work, label: `${LABEL}-other`, partitionMiB: 320, filesystem: 'none', ...spec });

  it('is found by its label, mounted read-only, nosuid, nodev, noexec, and given back unchanged', async () => {
    await sandbox.wrap('skopeo', SLOW);
    const before = await sha256(disk.partition);
    const started = sandbox.start(['run', '--stage', 'discovery', '--label', LABEL]);
    const mount = await waitFor('the mount', async () => await mountLine(sandbox.mountPoint));
    const [device, , kind, options = ''] = mount.split(' ');
    assert.deepEqual([device, kind], [disk.partition, 'xfs']);
    for (const option of ['ro', 'nosuid', 'nodev', 'noexec'])
      assert.ok(options.split(',').includes(option), `${option} is not in ${options}`);
    const result = await started.ended;
    assert.equal(result.exitCode, 0, result.stderr);
    assert.deepEqual([await mountPointsOf(disk.partition), await sha256(disk.partition)], [[], before]);
    await output(execOnLinux, 'sh', ['-c', 'exec 3<>"$1" && flock --nonblock 3', 'sh', disk.partition]);
    await assertLoaded(sandbox, bundle.images);
    await assertNothingLeft(sandbox);
    const status = await sandbox.agent(['status']);
    assert.match(status.stdout, new RegExp(`^source: {4}partition "${LABEL}" on ${disk.partition} \\(xfs\\)$`, 'm'));
  });

  it('can hold ext4 as well', async () => {
    await using ext4 = await otherDisk({ label: `${LABEL}-ext4`, filesystem: 'ext4', partitionMiB: 32 });
    await copyToDisk(ext4, home.work, bundle.directory);
    const before = await sha256(ext4.partition);
    const { exitCode, state } = await sandbox.run(['--label', `${LABEL}-ext4`]);
    assert.deepEqual(
      [exitCode, state.source],
      [0, { kind: 'partition', label: `${LABEL}-ext4`, device: ext4.partition, fileSystem: 'ext4' }],
    );
    assert.equal(await sha256(ext4.partition), before);
  });

  it('that does not come up in time is missed by its label, with the labels that are there', async () => {
    const { exitCode, state } = await sandbox.run(['--label', `${LABEL}-none`, '--device-wait', '1']);
    assert.deepEqual([exitCode, state.outcome, state.error?.code], [5, 'failed', 'ERR_PARTITION_MISSING']);
    assert.match(
      state.error?.message ?? '',
      new RegExp(`^no partition has the GPT label "${LABEL}-none" after 1 s; labels seen: .*"${LABEL}" \\(${disk.partition}\\)`),
    );
    assert.match(state.error?.remedy ?? '', /^Check that the disk is attached/);
    const durationMs = state.durationMs ?? 0;
    assert.ok(durationMs >= 1000 && durationMs < 10_000, `it took ${durationMs} ms`);
  });

  it('is waited for where its disk comes late', async () => {
    const file = join(home.work, 'late.img');
    const label = `${LABEL}-late`;
    {
      await using early = await otherDisk({ label, filesystem: 'ext4', partitionMiB: 32, sizeMiB: 40 });
      await copyToDisk(early, home.work, bundle.directory);
      await output(execOnLinux, 'cp', ['--sparse=always', early.device, file]);
    }
    const started = sandbox.start(['run', '--stage', 'discovery', '--label', label, '--device-wait', '60']);
    await waitFor('the search', async () =>
      (await mountPointsBelow(sandbox.root)).length === 0 && (await isWaiting(sandbox)) ? true : undefined,
    );
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const device = (await output(execOnLinux, 'losetup', ['-fP', '--show', file])).trim();
    await execOnLinux('partx', ['-a', device]);
    try {
      const result = await started.ended;
      assert.equal(result.exitCode, 0, result.stderr);
      assert.match(result.stderr, new RegExp(`^waiting for a partition with the label "${label}" \\([0-9]+ of at most 60 s\\)$`, 'm'));
      await assertLoaded(sandbox, bundle.images);
    } finally {
      await execOnLinux('partx', ['-d', device]);
      await output(execOnLinux, 'losetup', ['-d', device]);
    }
  });

  it('is not guessed where two have its label', async () => {
    await using twin = await otherDisk({ label: LABEL });
    const { exitCode, state } = await sandbox.run(['--label', LABEL]);
    const devices = [disk.partition, twin.partition].toSorted();
    assert.deepEqual([exitCode, state.error?.code], [5, 'ERR_PARTITION_AMBIGUOUS']);
    const [, named = ''] = /^2 partitions have the label "[^"]+": (.*)$/.exec(state.error?.message ?? '') ?? [];
    assert.deepEqual(named.split(', ').toSorted(), devices);
    assert.match(state.error?.remedy ?? '', /^Detach the wrong disk/);
  });

  for (const [what, make, holds] of [
    ['no file system', undefined, 'no known file system'],
    ['swap', 'mkswap', 'swap'],
  ] as const) {
    it(`is refused where it holds ${what}`, async () => {
      await using wrong = await otherDisk({ label: `${LABEL}-wrong` });
      if (make !== undefined) await output(execOnLinux, make, [wrong.partition]);
      const { exitCode, state } = await sandbox.run(['--label', `${LABEL}-wrong`]);
      assert.deepEqual(
        [exitCode, state.error],
        [
          5,
          {
            code: 'ERR_PARTITION_FILESYSTEM',
            message: `${wrong.partition} (label "${LABEL}-wrong") holds ${holds}, expected one of xfs, ext4, iso9660`,
            remedy: 'Create the data partition again at the factory with XFS, or name another partition with --label',
          },
        ],
      );
    });
  }

  it('is refused where its file system does not mount, and nothing is left mounted', async () => {
    await using broken = await otherDisk({ label: `${LABEL}-broken`, filesystem: 'xfs' });
    // The second sector of each allocation group is its free space (AGF), the third its inodes (AGI); xfs(5) superblock is whole.
    await overwrite(broken.partition, 512, Buffer.alloc(3 * 512));
    const { exitCode, state } = await sandbox.run(['--label', `${LABEL}-broken`]);
    assert.deepEqual([exitCode, state.error?.code], [5, 'ERR_PARTITION_MOUNT']);
    assert.match(
      state.error?.message ?? '',
      new RegExp(`^${broken.partition} \\(xfs\\) cannot be mounted at ${sandbox.mountPoint}: .*mount.* \\(kernel: XFS \\(`),
    );
    assert.match(state.error?.remedy ?? '', new RegExp(`xfs_repair -n ${broken.partition}`));
    await assertNothingLeft(sandbox);
  });

  it('that is in use at the end is reported, not taken apart; its payload stays, and the next run gives it back', async () => {
    await sandbox.wrap('skopeo', SLOW);
    const before = await sha256(disk.partition);
    const started = sandbox.start(['run', '--stage', 'discovery', '--label', LABEL]);
    await waitFor('the mount', async () => await mountLine(sandbox.mountPoint));
    using squatter = spawn('sleep', ['600'], { cwd: sandbox.mountPoint, stdio: 'ignore' });
    await once(squatter, 'spawn');
    const result = await started.ended;
    const status = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout).status;
    assert.deepEqual([result.exitCode, status.readiness, status.lastError.code, status.exitCode], [5, 'failed', 'ERR_PARTITION_BUSY', 5]);
    assert.match(status.lastError.message, new RegExp(`^${sandbox.mountPoint} cannot be unmounted: .*busy`));
    assert.equal(status.lastError.remedy, `Find the processes that use it with: fuser -vm ${sandbox.mountPoint}`);
    assert.equal(
      await readFile(join(sandbox.mountPoint, 'ai-images.txt'), 'utf8'),
      await readFile(join(bundle.directory, 'ai-images.txt'), 'utf8'),
    );
    squatter.kill();
    await once(squatter, 'exit');

    const { exitCode, state } = await sandbox.run(['--label', LABEL]);
    assert.deepEqual([exitCode, statesOf(state).map(([, was]) => was)], [0, ['present', 'present', 'present']]);
    await assertNothingLeft(sandbox);
    assert.equal(await sha256(disk.partition), before);
  });

  it('that is busy does not hide why the run failed', async () => {
    await using empty = await otherDisk({ label: `${LABEL}-empty`, filesystem: 'ext4', partitionMiB: 32 });
    await sandbox.wrap('umount', 'echo "target is busy" >&2; exit 32');
    const { exitCode, state } = await sandbox.run(['--label', `${LABEL}-empty`]);
    assert.deepEqual([exitCode, state.error?.code], [6, 'ERR_PAYLOAD_MISSING']);
    assert.match(
      state.error?.message ?? '',
      /holds no image list for the stage "discovery"; .*; after that: \S+ cannot be unmounted: .*busy/,
    );
    assert.match(state.error?.remedy ?? '', /^Put ai-images\.txt there .*; then: Find the processes that use it with: fuser -vm /);
    await output(execOnLinux, 'umount', [sandbox.mountPoint]);
    assert.deepEqual(await mountPointsOf(empty.partition), []);
  });
});

async function isWaiting(sandbox: Sandbox): Promise<boolean> {
  const { status } = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout);
  return status.run?.phase === 'waiting-for-partition';
}

/** The line of a mount point. Source: proc_pid_mounts(5). */
async function mountLine(mountPoint: string): Promise<string | undefined> {
  return (await readFile('/proc/self/mounts', 'utf8')).split('\n').find((line) => line.split(' ')[1] === mountPoint);
}

async function sha256(device: string): Promise<string> {
  return (await output(execOnLinux, 'sha256sum', [device])).split(' ')[0] ?? '';
}

async function overwrite(path: string, position: number, bytes: Buffer): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, position);
  await file.sync();
}
