import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { disksUnavailable, fillDisk, makeDisk } from '../../support/disk.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { type FactoryBench, loopsOfFile, makeFactoryBench, onTerminal, sealFiles } from '../../support/prestage.ts';

inOwnMounts(import.meta.url);

const MIB = 1024 * 1024;

describe('partition create', async () => {
  const reason = await disksUnavailable();
  let bench: FactoryBench;
  let count = 0;

  before(async () => {
    bench = await makeFactoryBench();
  });
  after(async () => await bench[Symbol.asyncDispose]());

  const image = async (sizeMiB = 900): Promise<string> => {
    const path = join(bench.work, `disk-${count++}.img`);
    await writeFile(path, '');
    await truncate(path, sizeMiB * MIB);
    return path;
  };
  const create = (disk: string, ...args: readonly string[]) => bench.prestage('partition', 'create', disk, ...args);
  const agreed = (disk: string) => ['--yes', '--expect-serial', disk];
  const tableOf = async (path: string) => await output(execOnLinux, 'sgdisk', ['--print', path]);
  const withDisks = (title: string, act: (t: TestContext) => Promise<void>): void => {
    it(title, { skip: reason ?? false }, act);
  };
  /** Code and message of what was refused; also that the image kept its bytes and its loop device was given back. */
  const refused = async (disk: string, ...args: readonly string[]) => {
    const earlier = await fingerprint(disk);
    const { exitCode, stderr } = await create(disk, ...args, '--output', 'json');
    const { code, message, remedy } = JSON.parse(stderr.slice(stderr.indexOf('{\n'))).error;
    assert.deepEqual(await fingerprint(disk), earlier);
    assert.equal(await loopsOfFile(disk), '');
    return { code, message, remedy, exitCode };
  };

  withDisks('makes a partition of the label and the size at the end of a blank image, with XFS, and detaches the image', async () => {
    const disk = await image();
    const { stdout, exitCode } = await create(disk, '--size', '400MiB', ...agreed(disk));
    assert.deepEqual([stdout, exitCode], [`partition 5 of ${disk} (label "data", xfs) was created`, 0]);
    assert.match(await tableOf(disk), /^ {3}5 +1021952 +1843166 +401\.0 MiB +8300 +data$/m);
    assert.equal(await loopsOfFile(disk), '');
    const probe = await output(execOnLinux, 'blkid', [
      '--probe',
      '--offset',
      `${1_021_952 * 512}`,
      '--output',
      'value',
      '--match-tag',
      'TYPE',
      disk,
    ]);
    assert.equal(probe.trim(), 'xfs');
    assert.match(await output(execOnLinux, 'sgdisk', ['--verify', disk]), /No problems found/);
  });

  withDisks('makes a file system that the kernel of RHEL 8 mounts', async () => {
    await using disk = await makeDisk({ directory: bench.work, label: 'other', filesystem: 'none' });
    await output(execOnLinux, 'sgdisk', ['--delete=5', disk.device]);
    const { exitCode } = await create(disk.device, '--size', '400MiB', '--yes', '--expect-serial', await backingFile(disk.device));
    assert.equal(exitCode, 0);
    const info = await output(execOnLinux, 'xfs_db', ['-r', '-c', 'version', disk.partition]);
    assert.deepEqual([/BIGTIME/.test(info), /INOBTCNT/.test(info), /CRC/.test(info)], [false, false, true]);
  });

  withDisks('shows the plan and changes nothing in a dry run', async () => {
    const disk = await image();
    await output(execOnLinux, 'sgdisk', ['--new=1:2048:+100M', '--change-name=1:root', disk]);
    const sum = await fingerprint(disk);
    const { stdout, exitCode } = await create(disk, '--size', '400MiB', '--dry-run');
    assert.equal(exitCode, 0);
    assert.deepEqual(await fingerprint(disk), sum);
    assert.equal(
      stdout.replace(/\/dev\/loop\d+/, '/dev/loopN'),
      [
        `disk ${disk} (/dev/loopN)`,
        `  model unknown, path ${disk}`,
        '  900.0 MiB, sectors of 512 bytes, GPT',
        '  1: "root" no file system, 100.0 MiB, sectors 2048 to 206847 (0.00 to 0.10 GiB)',
        'these changes will be made:',
        '  add partition 5: "data" xfs, 401.0 MiB, sectors 1021952 to 1843166 (0.49 to 0.88 GiB)',
        '  format partition 5 with XFS',
        'note: only 499.0 MiB precede the partition: OpenShift needs at least 120 GB to install on this disk',
        'data partition: 5: "data" xfs, 401.0 MiB, sectors 1021952 to 1843166 (0.49 to 0.88 GiB)',
        'nothing was written',
      ].join('\n'),
    );
  });

  withDisks('demands flags where there is no terminal, all of them, and the right disk', async () => {
    const disk = await image();
    const without = await refused(disk, '--size', '400MiB');
    assert.deepEqual(without, {
      code: 'ERR_NOT_CONFIRMED',
      message: 'there is no terminal on which to ask for confirmation; nothing was written',
      remedy: `Give --yes --expect-serial '${disk}' (the path of the intended disk)`,
      exitCode: 2,
    });
    assert.equal((await refused(disk, '--size', '400MiB', '--yes')).code, 'ERR_NOT_CONFIRMED');
    assert.deepEqual(await refused(disk, '--size', '400MiB', '--yes', '--expect-serial', '/other.img'), {
      code: 'ERR_SERIAL',
      message: `${disk} has the path "${disk}", but "/other.img" was expected; nothing was written`,
      remedy: 'Look at the disks (lsblk -d -o NAME,MODEL,SERIAL,SIZE): device names can change from boot to boot',
      exitCode: 2,
    });
  });

  withDisks('compares the serial number of a disk that has one', async () => {
    await using disk = await makeDisk({ directory: bench.work, label: 'other' });
    // Loop devices have none: lsblk is made to tell one.
    await bench.wrap('lsblk', `"$REAL" "$@" | sed 's/"serial": *null/"serial":"S4XYZ 1 "/'`);
    const first = async (serial: string) => {
      const { stderr, exitCode } = await create(disk.device, '--replace', '--label', 'other', '--yes', '--expect-serial', serial);
      return [exitCode, stderr.split('\n').find((line) => line.startsWith('error'))];
    };
    const wrong = `error: ${disk.device} has the serial number "S4XYZ 1", but "S4XYZ" was expected; nothing was written`;
    const answers = [await first('S4XYZ'), await first('S4XYZ 1')];
    await bench.wrap('lsblk', '');
    assert.deepEqual(answers, [
      [2, wrong],
      [0, undefined],
    ]);
  });

  withDisks('asks on a terminal, and goes on only where the name is typed exactly', async () => {
    const disk = await image();
    const no = await onTerminal(bench, ['partition', 'create', disk, '--size', '400MiB'], 'yes');
    assert.equal(no.exitCode, 2);
    assert.match(no.screen, /error: expected .*, got "yes"; nothing was written/);
    assert.match(await tableOf(disk), /Creating new GPT entries/);
    const yes = await onTerminal(bench, ['partition', 'create', disk, '--size', '400MiB'], disk);
    assert.equal(yes.exitCode, 0, yes.screen);
    assert.match(await tableOf(disk), /8300 {2}data$/m);
  });

  withDisks('keeps a partition of the label with --reuse, and loses it with --replace after saying what it holds', async () => {
    const disk = await image();
    const bundle = join(bench.work, 'lost');
    await sealFiles(bundle, { 'archives/a.tgz': 'a' });
    assert.equal((await create(disk, '--size', '400MiB', ...agreed(disk))).exitCode, 0);
    assert.equal((await bench.prestage('partition', 'write', bundle, disk)).exitCode, 0);
    const there = await refused(disk, '--size', '400MiB');
    assert.deepEqual([there.code, there.exitCode], ['ERR_PARTITION_EXISTS', 5]);
    const sum = await fingerprint(disk);
    assert.deepEqual((await create(disk, '--reuse')).stdout, `partition 5 of ${disk} (label "data", xfs) already exists`);
    assert.deepEqual(await fingerprint(disk), sum);
    const replaced = await create(disk, '--replace', '--size', '350MiB', ...agreed(disk));
    assert.equal(replaced.exitCode, 0, replaced.stderr);
    assert.match(replaced.stderr, /^LOST with it: .* in use; the bundle of release 4\.14\.0; \/archives \/prestage\.json$/m);
    assert.match(await tableOf(disk), /^ {3}5 +\d+ +1843166 +351\.0 MiB +8300 +data$/m);
    const again = await bench.prestage('partition', 'write', bundle, disk, '--output', 'json');
    assert.equal(JSON.parse(again.stdout).isWritten, true);
  });

  withDisks('moves the second table of an image that has grown, and sees sectors of 4096 bytes', async () => {
    const grown = await image();
    await create(grown, '--size', '350MiB', ...agreed(grown));
    await truncate(grown, 1500 * MIB);
    const { stderr, exitCode } = await create(grown, '--label', 'second', '--size', '400MiB', ...agreed(grown));
    assert.equal(exitCode, 0, stderr);
    assert.match(stderr, /move the backup GPT to the end of the disk, which has grown/);
    assert.match(await output(execOnLinux, 'sgdisk', ['--verify', grown]), /No problems found/);
    const large = await image();
    const loop = (await output(execOnLinux, 'losetup', ['--find', '--show', '--sector-size', '4096', large])).trim();
    await output(execOnLinux, 'sgdisk', ['--new=1:0:+100M', '--change-name=1:root', loop]);
    await output(execOnLinux, 'losetup', ['--detach', loop]);
    const on4k = await create(large, '--size', '400MiB', ...agreed(large));
    assert.equal(on4k.exitCode, 0, on4k.stderr);
    assert.match(on4k.stderr, /sectors of 4096 bytes, GPT\n {2}1: "root"/);
  });

  withDisks('refuses images of every other kind and leaves them as they are', async () => {
    const mbr = await image();
    await poke(mbr, 446, [0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0]);
    await poke(mbr, 510, [0x55, 0xaa]);
    const damaged = await image();
    await output(execOnLinux, 'sgdisk', ['--new=1:2048:+100M', damaged]);
    await poke(damaged, 600, [1, 2, 3, 4]);
    const whole = await image();
    await output(execOnLinux, 'mkfs.xfs', ['-q', whole]);
    const full = await image();
    await output(execOnLinux, 'sgdisk', ['--new=1:2048:0', full]);
    const size = ['--size', '400MiB'];
    const codes = async (disk: string, ...args: readonly string[]) => (await refused(disk, ...args)).code;
    assert.deepEqual(
      [await codes(mbr, ...size), await codes(damaged, ...size), await codes(whole, ...size), await codes(full, ...size)],
      ['ERR_DISK_TABLE', 'ERR_DISK_TABLE', 'ERR_DISK_TABLE', 'ERR_DISK_ROOM'],
    );
    assert.equal(await codes(await image(), '--size', '1GiB'), 'ERR_DISK_ROOM');
  });

  withDisks('takes no disk with half a table for a blank one, until both of its ends are wiped', async () => {
    const size = ['--size', '400MiB'];
    const zeros = (length: number) => Array.from({ length }, () => 0);
    const partitions = 'partitions: 1 "root" (sectors 2048 to 206847)';
    for (const [offset, length, found] of [
      [
        0,
        MIB,
        `the protective MBR in front of it is missing; start of the disk: no table; end of the disk: a table with 1 partition; ${partitions}`,
      ],
      [0, 512, `the protective MBR in front of it is missing; ${partitions}`],
      [899 * MIB, MIB, `start of the disk: a table with 1 partition; end of the disk: no table; ${partitions}`],
    ] as const) {
      const disk = await image();
      await output(execOnLinux, 'sgdisk', ['--new=1:2048:+100M', '--change-name=1:root', disk]);
      await poke(disk, offset, zeros(length));
      const { code, message, exitCode } = await refused(disk, ...size);
      const said = `${disk} is not blank and its GPT is damaged: ${found}`;
      assert.deepEqual([code, message, exitCode], ['ERR_DISK_TABLE', said, 5]);
      await execOnLinux('sgdisk', ['--zap-all', disk]);
      const made = await create(disk, ...size, ...agreed(disk));
      assert.equal(made.exitCode, 0, made.stderr);
    }
  });

  withDisks(
    'refuses a disk with a mounted partition, also one that is mounted where nobody sees it, and one that is attached already',
    async () => {
      await using disk = await makeDisk({ directory: bench.work, label: 'busy' });
      const serial = await backingFile(disk.device);
      const fail = async (device: string) => {
        const { stderr, exitCode } = await create(device, '--size', '200MiB', '--yes', '--expect-serial', serial);
        return [exitCode, stderr.split('\n')[0]];
      };
      await fillDisk(disk, bench.work, async (mountPoint) => {
        assert.deepEqual(await fail(disk.device), [5, `error: ${disk.device} is in use: ${disk.partition} is mounted at ${mountPoint}`]);
      });
      const hidden = execOnLinux('unshare', [
        '--mount',
        'sh',
        '-c',
        `mount ${disk.partition} /mnt && touch ${bench.work}/hidden && sleep 15`,
      ]);
      while ((await readFile(join(bench.work, 'hidden'), 'utf8').catch(() => undefined)) === undefined)
        await new Promise((done) => setTimeout(done, 50));
      assert.deepEqual(await fail(disk.device), [
        5,
        `error: ${disk.device} is in use: the kernel refuses exclusive access, but no mount, swap or device of this system explains why`,
      ]);
      await hidden;
      assert.deepEqual(await fail(serial), [5, `error: ${serial} is already attached to ${disk.device}`]);
    },
  );

  withDisks('refuses swap space, a partition, a read-only device, and what is no disk at all', async () => {
    const first = async (device: string) =>
      (await create(device, '--size', '400MiB', '--yes', '--expect-serial', 'x')).stderr.split('\n')[0];
    {
      await using disk = await makeDisk({ directory: bench.work, label: 'swap', filesystem: 'none' });
      assert.equal(await first(disk.partition), `error: ${disk.partition} is not a whole disk: lsblk reports type "part"`);
      await output(execOnLinux, 'mkswap', [disk.partition]);
      await output(execOnLinux, 'swapon', [disk.partition]);
      try {
        assert.equal(await first(disk.device), `error: ${disk.device} is in use: ${disk.partition} is swap space`);
      } finally {
        await output(execOnLinux, 'swapoff', [disk.partition]);
      }
      // A loop device stays read-only for its next user: the mark has to go again.
      await output(execOnLinux, 'blockdev', ['--setro', disk.device]);
      try {
        assert.equal(await first(disk.device), `error: ${disk.device} is read-only`);
      } finally {
        await output(execOnLinux, 'blockdev', ['--setrw', disk.device]);
      }
    }
    assert.equal(await first('/dev/null'), 'error: /dev/null is neither a block device nor a file');
    assert.equal(await first(join(bench.work, 'absent')), `error: ${join(bench.work, 'absent')} cannot be opened: it does not exist`);
  });

  withDisks('refuses when the disk has changed while the person was thinking', async () => {
    const disk = await image();
    // The second look at the disk comes after someone else has made a partition.
    await bench.wrap(
      'lsblk',
      'for device; do :; done\n[ ! -e $WORK/looked ] || sgdisk --new=1:2048:+100M $device >&2\ntouch $WORK/looked\nexec $REAL "$@"',
    );
    const { stderr, exitCode } = await create(disk, '--size', '400MiB', ...agreed(disk));
    await bench.wrap('lsblk', '');
    assert.equal(exitCode, 5, stderr);
    assert.match(stderr, /^error: .* has changed since the plan was shown; nothing was written\n {2}ERR_DISK_CHANGED;/m);
    assert.doesNotMatch(await tableOf(disk), /data/);
  });

  withDisks('leaves no loop device where it is killed as one is attached', async () => {
    const disk = await image();
    // losetup is a child of the shell that the agent has started.
    const kill = 'kill -KILL "$(ps -o ppid= -p $PPID | tr -d " ")"';
    await bench.wrap('losetup', `"$REAL" "$@"; code=$?\ncase "$*" in *--partscan*) ${kill};; esac\nexit $code`);
    const { exitCode } = await create(disk, '--size', '400MiB', ...agreed(disk));
    await bench.wrap('losetup', '');
    assert.equal(exitCode, 128 + 9);
    const again = await create(disk, '--size', '400MiB', ...agreed(disk));
    assert.equal(again.exitCode, 0, again.stderr);
  });

  async function backingFile(loop: string): Promise<string> {
    return (await output(execOnLinux, 'losetup', ['--noheadings', '--output', 'BACK-FILE', loop])).trim();
  }
});

async function poke(path: string, position: number, bytes: readonly number[]): Promise<void> {
  await using file = await open(path, 'r+');
  await file.write(Uint8Array.from(bytes), 0, bytes.length, position);
}

/** Blocks in use, and the bytes where partition tables and superblocks lie. */
async function fingerprint(path: string): Promise<unknown> {
  await using file = await open(path, 'r');
  const { size, blocks } = await file.stat();
  const bytesAt = async (position: number) => (await file.read(Buffer.alloc(MIB), 0, MIB, position)).buffer;
  const hash = createHash('sha256')
    .update(await bytesAt(0))
    .update(await bytesAt(size - MIB));
  return { size, blocks, sha256: hash.digest('hex') };
}
