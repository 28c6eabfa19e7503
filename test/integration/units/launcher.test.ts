import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, rmdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { exitCodes } from '../../../agent/model/errors.ts';
import { TOP } from '../../support/cache.ts';
import { disksUnavailable, fillDisk, makeDisk, mountPointsOf, type TestDisk } from '../../support/disk.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';

inOwnMounts(import.meta.url);

const LAUNCHER = join(TOP, 'agent/units/prestage-launcher.sh');
/** Exit code 3 stands for what the agent itself ends in; the launcher must hand it on. */
const AGENT = '#!/bin/sh\necho "agent of the partition: $*"\nexit 3\n';
const OTHER_AGENT = '#!/bin/sh\necho "agent in place: $*"\n';
const OPEN = ['run', '--stage', 'discovery', '--policy', 'open', '--lock-wait', '600'];
const CLOSED = ['run', '--stage', 'discovery', '--policy', 'closed', '--lock-wait', '600'];
/** What a run with the policy `open` adds, so that the unit does not fail. */
const TOLERATED = 64;

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
/** Other tests have disks of their own on the same machine. */
const label = `launch-${process.pid}`;

let unavailable: string | undefined;
let scratch = '';
let disk: TestDisk;

before(async () => {
  unavailable = await disksUnavailable();
  scratch = await mkdtemp(join(tmpdir(), 'launcher-test-'));
  if (unavailable !== undefined) return;
  disk = await makeDisk({ directory: scratch, label });
  await fillDisk(disk, scratch, async (mountPoint) => {
    await writeFile(join(mountPoint, 'prestage-agent'), AGENT);
    await writeFile(join(mountPoint, 'payload.tgz'), 'payload');
  });
});
after(async () => {
  if (unavailable === undefined) await disk[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

interface Node {
  readonly root: string;
  readonly agent: string;
  readonly mountPoint: string;
}

/** A directory that stands for / of a node, as ignition leaves it. */
async function makeNode(env: Readonly<Record<string, string | number>>): Promise<Node> {
  const root = await mkdtemp(join(scratch, 'node-'));
  await mkdir(join(root, 'usr/local/bin'), { recursive: true });
  await mkdir(join(root, 'etc/prestage-agent'), { recursive: true });
  const lines = Object.entries({ LABEL: label, WAIT: 1, ...env }).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(join(root, 'etc/prestage-agent/launcher.env'), lines.join(''));
  return { root, agent: join(root, 'usr/local/bin/prestage-agent'), mountPoint: join(root, 'run/prestage-agent/launcher') };
}

async function placeAgent(node: Node, text: string): Promise<void> {
  await writeFile(node.agent, text, { mode: 0o755 });
}

function launch(node: Node, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return execOnLinux('bash', [LAUNCHER, ...args], { env: { PRESTAGE_ROOT: node.root, ...env } });
}

/** After every act: nothing mounted, no leftover file, the payload as it was. */
async function assertReleased(node: Node, inPlace: readonly string[]): Promise<void> {
  assert.deepEqual(await mountPointsOf(disk.partition), []);
  assert.equal(existsSync(node.mountPoint), false);
  assert.deepEqual(readdirSync(join(node.root, 'usr/local/bin')), inPlace);
  await fillDisk(disk, scratch, async (mountPoint) => {
    assert.deepEqual(readdirSync(mountPoint), ['payload.tgz', 'prestage-agent']);
    assert.equal(await readFile(join(mountPoint, 'payload.tgz'), 'utf8'), 'payload');
  });
}

function withDisks(title: string, act: (t: TestContext) => Promise<void>): void {
  test(title, async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable);
    await act(t);
  });
}

withDisks('the pinned executable is copied, the partition released, and the agent run with all arguments', async () => {
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
  const result = await launch(node, [...OPEN, 'a b']);
  assert.deepEqual(result, { stdout: `agent of the partition: ${OPEN.join(' ')} a b`, stderr: '', exitCode: 3 });
  assert.equal(await readFile(node.agent, 'utf8'), AGENT);
  assert.equal(statSync(node.agent).mode & 0o7777, 0o755);
  await assertReleased(node, ['prestage-agent']);
});

withDisks('an executable in place that has the pinned digest runs without looking for a partition', async () => {
  const node = await makeNode({ AGENT_SHA256: sha256(OTHER_AGENT), LABEL: `${label}-absent` });
  await placeAgent(node, OTHER_AGENT);
  assert.deepEqual(await launch(node, OPEN), { stdout: `agent in place: ${OPEN.join(' ')}`, stderr: '', exitCode: 0 });
  await assertReleased(node, ['prestage-agent']);
});

withDisks('an executable in place with another digest is replaced by the pinned one', async () => {
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
  await placeAgent(node, OTHER_AGENT);
  const before = statSync(node.agent).ino;
  assert.equal((await launch(node, OPEN)).stdout, `agent of the partition: ${OPEN.join(' ')}`);
  assert.notEqual(statSync(node.agent).ino, before, 'it was renamed into place, not written over');
  await assertReleased(node, ['prestage-agent']);
});

withDisks('an executable with another digest is neither run nor kept, and the one in place is not run in its stead', async () => {
  const pin = sha256('something else');
  const node = await makeNode({ AGENT_SHA256: pin });
  await placeAgent(node, OTHER_AGENT);
  assert.deepEqual(await launch(node, CLOSED), {
    stdout: '',
    stderr: `prestage-launcher: ${node.mountPoint}/prestage-agent on ${disk.partition} does not have the pinned sha256 ${pin}`,
    exitCode: exitCodes.payload,
  });
  assert.equal(await readFile(node.agent, 'utf8'), OTHER_AGENT);
  await assertReleased(node, ['prestage-agent']);
});

withDisks('without a pin the executable of the partition is never run', async () => {
  const node = await makeNode({ AGENT_SHA256: '' });
  assert.deepEqual(await launch(node, OPEN), {
    stdout: '',
    stderr: `prestage-launcher: ${node.agent} is missing, and ${node.root}/etc/prestage-agent/launcher.env has no AGENT_SHA256`,
    exitCode: exitCodes.payload + TOLERATED,
  });
  await assertReleased(node, []);
});

withDisks('without a pin an executable that stands in place runs', async () => {
  const node = await makeNode({});
  await placeAgent(node, OTHER_AGENT);
  assert.deepEqual(await launch(node, ['status']), { stdout: 'agent in place: status', stderr: '', exitCode: 0 });
});

for (const { args, exitCode } of [
  { args: CLOSED, exitCode: exitCodes.partition },
  { args: OPEN, exitCode: exitCodes.partition + TOLERATED },
  { args: ['run', '--policy=open', '--stage', 'installed'], exitCode: exitCodes.partition + TOLERATED },
  { args: ['status'], exitCode: exitCodes.partition },
]) {
  withDisks(`a partition that does not come up in time ends "${args.join(' ')}" with ${exitCode}`, async () => {
    const node = await makeNode({ AGENT_SHA256: sha256(AGENT), LABEL: `${label}-absent` });
    const start = performance.now();
    const result = await launch(node, args, { JOURNAL_STREAM: '8:1' });
    assert.deepEqual(result, {
      stdout: '',
      stderr: [
        `<5>prestage-launcher: waiting for partition ${label}-absent`,
        `<3>prestage-launcher: no partition ${label}-absent after 1 s: attach its disk`,
      ].join('\n'),
      exitCode,
    });
    assert.ok(performance.now() - start >= 1000);
    await assertReleased(node, []);
  });
}

withDisks('a partition that comes up late is waited for', async () => {
  const late = `${label}-late`;
  await using lateDisk = await makeDisk({ directory: scratch, label: `${label}-early` });
  await fillDisk(lateDisk, scratch, (mountPoint) => writeFile(join(mountPoint, 'prestage-agent'), AGENT));
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT), LABEL: late, WAIT: 60 });
  const said = join(node.root, 'said');
  const running = execOnLinux('bash', ['-c', 'exec bash "$@" 2> >(tee "$0" >&2)', said, LAUNCHER, ...OPEN], {
    env: { PRESTAGE_ROOT: node.root },
  });
  while (!(await readFile(said, 'utf8').catch(() => '')).includes('waiting')) await sleep(10);
  await output(execOnLinux, 'sgdisk', ['-c', `5:${late}`, lateDisk.device]);
  // A kernel that does not read GPT by itself has forgotten the partition, unless somebody had it open.
  await execOnLinux('partx', ['-a', lateDisk.device]);
  assert.deepEqual(await running, {
    stdout: `agent of the partition: ${OPEN.join(' ')}`,
    stderr: `prestage-launcher: waiting for partition ${late}`,
    exitCode: 3,
  });
  assert.deepEqual(await mountPointsOf(lateDisk.partition), []);
});

withDisks('two partitions of one label are refused with the names of both', async () => {
  await using second = await makeDisk({ directory: scratch, label });
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
  const devices = [disk.partition, second.partition].sort().join(' ');
  assert.deepEqual(await launch(node, OPEN), {
    stdout: '',
    stderr: `prestage-launcher: several partitions ${label}: detach all but one of ${devices}`,
    exitCode: exitCodes.partition + TOLERATED,
  });
  await assertReleased(node, []);
});

withDisks('virtual media are found by their volume label, and go through the same mount and check', async () => {
  const media = `media-${process.pid}`;
  const [image, folder] = [join(scratch, 'media.iso'), join(scratch, 'media')];
  await mkdir(folder);
  await writeFile(join(folder, 'prestage-agent'), AGENT);
  await output(execOnLinux, 'xorriso', ['-as', 'mkisofs', '-quiet', '-r', '-V', media, '-o', image, folder]);
  const device = (await output(execOnLinux, 'losetup', ['-fr', '--show', image])).trim();
  try {
    const node = await makeNode({ AGENT_SHA256: sha256(AGENT), LABEL: media });
    const { stdout, stderr, exitCode } = await launch(node, OPEN);
    // Not every kernel that runs tests has ISO 9660; the node's has.
    const known = /\biso9660$/m.test(await readFile('/proc/filesystems', 'utf8'));
    const found = { stdout: `agent of the partition: ${OPEN.join(' ')}`, last: '', exitCode: 3 };
    const unknown = { stdout: '', last: `prestage-launcher: ${device} does not mount`, exitCode: exitCodes.partition + TOLERATED };
    assert.deepEqual({ stdout, last: stderr.split('\n').at(-1), exitCode }, known ? found : unknown);
  } finally {
    await output(execOnLinux, 'losetup', ['-d', device]);
  }
});

withDisks('a partition without a file system is refused', async () => {
  const empty = `${label}-empty`;
  await using emptyDisk = await makeDisk({ directory: scratch, label: empty, filesystem: 'none' });
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT), LABEL: empty });
  const { stderr, exitCode } = await launch(node, CLOSED);
  assert.deepEqual(
    [stderr.split('\n').at(-1), exitCode],
    [`prestage-launcher: ${emptyDisk.partition} does not mount`, exitCodes.partition],
  );
  assert.equal(existsSync(node.mountPoint), false);
});

withDisks('the executable is found in bin/ under the name of this processor, and its absence is named', async () => {
  const other = `${label}-bin`;
  await using otherDisk = await makeDisk({ directory: scratch, label: other });
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT), LABEL: other });
  assert.deepEqual(await launch(node, CLOSED), {
    stdout: '',
    stderr: `prestage-launcher: no prestage-agent on ${otherDisk.partition}`,
    exitCode: exitCodes.payload,
  });
  await fillDisk(otherDisk, scratch, async (mountPoint) => {
    await mkdir(join(mountPoint, 'bin'));
    await writeFile(join(mountPoint, `bin/prestage-agent-linux-${process.arch}`), AGENT);
  });
  assert.equal((await launch(node, CLOSED)).stdout, `agent of the partition: ${CLOSED.join(' ')}`);
  assert.deepEqual(await mountPointsOf(otherDisk.partition), []);
});

/** What only root can read on the node. It is pinned, so that a launcher that copies it would also make it executable and put it into place. */
const SECRET = 'what only root can read\n';
const IN_BIN = `prestage-agent-linux-${process.arch}`;

for (const { title, path, link } of [
  {
    title: 'the executable at the top',
    path: 'prestage-agent',
    link: async (top: string, to: string) => await symlink(to, join(top, 'prestage-agent')),
  },
  {
    title: 'the executable in bin/',
    path: `bin/${IN_BIN}`,
    link: async (top: string, to: string) => {
      await mkdir(join(top, 'bin'));
      await symlink(to, join(top, 'bin', IN_BIN));
    },
  },
  { title: 'bin/ itself', path: `bin/${IN_BIN}`, link: async (top: string, to: string) => await symlink(dirname(to), join(top, 'bin')) },
]) {
  withDisks(`no link on the partition is followed, and nothing behind it is copied: ${title}`, async () => {
    const hostile = `${label}-link`;
    await using hostileDisk = await makeDisk({ directory: scratch, label: hostile });
    const node = await makeNode({ AGENT_SHA256: sha256(SECRET), LABEL: hostile });
    const secret = join(node.root, IN_BIN);
    await writeFile(secret, SECRET, { mode: 0o600 });
    await fillDisk(hostileDisk, scratch, async (mountPoint) => await link(mountPoint, secret));
    assert.deepEqual(await launch(node, CLOSED), {
      stdout: '',
      stderr: `prestage-launcher: ${node.mountPoint}/${path} on ${hostileDisk.partition} is, or is below, a link`,
      exitCode: exitCodes.payload,
    });
    assert.deepEqual(readdirSync(join(node.root, 'usr/local/bin')), []);
    assert.deepEqual(await mountPointsOf(hostileDisk.partition), []);
    assert.equal(existsSync(node.mountPoint), false);
  });
}

for (const { what, stale } of [
  { what: 'a new file', stale: false },
  { what: 'one that a killed launcher left executable', stale: true },
]) {
  withDisks(`a copy is for root alone until its digest is known, into ${what}`, async () => {
    const other = `${label}-large`;
    await using otherDisk = await makeDisk({ directory: scratch, label: other });
    const sizeBytes = 64 * 2 ** 20;
    await fillDisk(otherDisk, scratch, async (mountPoint) => await writeFile(join(mountPoint, 'prestage-agent'), Buffer.alloc(sizeBytes)));
    const node = await makeNode({ AGENT_SHA256: sha256('another'), LABEL: other });
    const temporary = `${node.agent}.tmp`;
    if (stale) await writeFile(temporary, '', { mode: 0o755 });
    const ended = launch(node, CLOSED);
    const modes = new Set<number>();
    for (let isOver = false; !isOver; isOver = await Promise.race([ended.then(() => true), sleep(1, false)])) {
      const found = statSync(temporary, { throwIfNoEntry: false });
      if (found !== undefined && found.size > 0) modes.add(found.mode & 0o7777);
    }
    assert.deepEqual([[...modes], (await ended).exitCode], [[0o600], exitCodes.payload]);
    assert.equal(existsSync(temporary), false);
  });
}

withDisks('what is no regular file is not read: a fifo on the partition cannot hold up the boot', async () => {
  const hostile = `${label}-fifo`;
  await using hostileDisk = await makeDisk({ directory: scratch, label: hostile });
  await fillDisk(hostileDisk, scratch, async (mountPoint) => {
    await output(execOnLinux, 'mkfifo', [join(mountPoint, 'prestage-agent')]);
  });
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT), LABEL: hostile });
  assert.equal((await launch(node, OPEN)).exitCode, exitCodes.payload + TOLERATED);
});

/** The fifo is prepared for the copy, and what is to write it waits, still a shell, for somebody who reads it. */
async function holdsCopyUp(launcher: number, fifo: string): Promise<boolean> {
  if ((statSync(fifo).mode & 0o7777) !== 0o600) return false;
  const children = (await readFile(`/proc/${launcher}/task/${launcher}/children`, 'utf8')).split(' ').filter((pid) => pid !== '');
  const names = await Promise.all(children.map(async (pid) => await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')));
  return names.includes('bash\n');
}

withDisks(
  'SIGTERM during the copy ends it as interrupted, with the partition released; while it lasts the mount is read-only, nosuid, nodev and private',
  async () => {
    const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
    // A fifo in the place of the temporary file holds the copy up until it is read.
    await output(execOnLinux, 'mkfifo', [`${node.agent}.tmp`]);
    const child = spawn('bash', [LAUNCHER, ...OPEN], { env: { ...process.env, PRESTAGE_ROOT: node.root }, stdio: 'ignore' });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    while (!(await holdsCopyUp(child.pid ?? 0, `${node.agent}.tmp`))) await sleep(10);
    const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').filter((line) => line.startsWith(`${disk.partition} `));
    const options = mounts.map((line) =>
      line
        .split(' ')[3]
        ?.split(',')
        .filter((option) => ['ro', 'nosuid', 'nodev', 'noexec'].includes(option)),
    );
    assert.deepEqual(options, [['ro', 'nosuid', 'nodev', 'noexec']]);
    assert.equal(child.kill('SIGTERM'), true);
    await readFile(`${node.agent}.tmp`);
    assert.equal(await ended, exitCodes.interrupted + TOLERATED);
    await assertReleased(node, []);
  },
);

withDisks('a mount that a killed launcher left behind is released by the next one', async () => {
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
  await mkdir(node.mountPoint, { recursive: true });
  await output(execOnLinux, 'mount', ['-o', 'ro', disk.partition, node.mountPoint]);
  assert.equal((await launch(node, OPEN)).exitCode, 3);
  await assertReleased(node, ['prestage-agent']);
});

withDisks('a mount that stays busy is reported, and nothing below it is ever removed', async () => {
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
  await mkdir(node.mountPoint, { recursive: true });
  await output(execOnLinux, 'mount', ['-o', 'ro', disk.partition, node.mountPoint]);
  const holder = spawn('sleep', ['60'], { cwd: node.mountPoint, stdio: 'ignore' });
  try {
    const { stderr, exitCode } = await launch(node, CLOSED);
    assert.deepEqual([stderr.split('\n').at(-1), exitCode], [`prestage-launcher: ${node.mountPoint} is busy`, exitCodes.partition]);
    assert.deepEqual(readdirSync(node.mountPoint), ['payload.tgz', 'prestage-agent']);
  } finally {
    const ended = new Promise((resolve) => holder.once('exit', resolve));
    holder.kill();
    await ended;
    await output(execOnLinux, 'umount', [node.mountPoint]);
    await rmdir(node.mountPoint);
  }
});

withDisks('two launchers at once both end well', async () => {
  const node = await makeNode({ AGENT_SHA256: sha256(AGENT) });
  const results = await Promise.all([launch(node, OPEN), launch(node, OPEN)]);
  assert.deepEqual(
    results.map(({ stderr, exitCode }) => ({ stderr, exitCode })),
    [
      { stderr: '', exitCode: 3 },
      { stderr: '', exitCode: 3 },
    ],
  );
  await assertReleased(node, ['prestage-agent']);
});

test('the launcher starts from the place and under the name that the units know', async () => {
  const name = '/usr/local/bin/prestage-launcher';
  const units = await Promise.all(
    ['discovery', 'installed'].map((stage) => readFile(join(TOP, `agent/units/prestage-agent-${stage}.service`), 'utf8')),
  );
  assert.deepEqual(
    units.map((unit) => /^ExecStart=(\S+) run --stage (\w+) /m.exec(unit)?.slice(1)),
    [
      [name, 'discovery'],
      [name, 'installed'],
    ],
  );
  const copy = join(scratch, 'prestage-launcher');
  await copyFile(LAUNCHER, copy);
  assert.equal((await execOnLinux('bash', ['-n', copy])).exitCode, 0);
});
