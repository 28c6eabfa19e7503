import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { type AgentResult, makeSandbox, type Sandbox, statesOf } from '../../support/agent.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { makeImage } from '../../support/images.ts';
import { assertLoaded, assertNothingLeft, recordedDigests } from '../../support/loaded.ts';
import { makeTinyBundle, type TinyBundle, writeFolder } from '../../support/tiny-bundle.ts';

/** Where Debian and Fedora put it. */
const LIBFAKETIME = ['/usr/lib/x86_64-linux-gnu', '/usr/lib64'].map((place) => `${place}/faketime/libfaketime.so.1`).find(existsSync);

describe('a run on a machine that is short of something', () => {
  let home: Sandbox;
  let bundle: TinyBundle;
  let sandbox: Sandbox;
  before(async () => {
    home = await makeSandbox();
    bundle = await makeTinyBundle(home.work);
  });
  beforeEach(async () => {
    await sandbox?.[Symbol.asyncDispose]();
    sandbox = await makeSandbox();
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  /** A file system in memory at the place of the storage. */
  const smallStorage = async (size: string) => {
    await mkdir(sandbox.graphroot, { recursive: true });
    await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', sandbox.graphroot]);
  };
  const run = async (...args: readonly string[]) => await sandbox.run(['--bundle', bundle.directory, ...args]);

  it('of space in the storage refuses to start, with both figures', async () => {
    await smallStorage('64k');
    await sandbox.wrap('skopeo', 'echo "$*" >>"$LOG"; exec "$REAL" "$@"');
    const { exitCode, state } = await run();
    assert.deepEqual([exitCode, state.outcome, state.error?.code], [7, 'failed', 'ERR_SPACE_STORAGE']);
    assert.match(state.error?.message ?? '', /^\S+\/storage needs [0-9.]+ KiB \(estimated\), but has only 64\.0 KiB free$/);
    assert.deepEqual([await sandbox.log(), await readdir(sandbox.graphroot)], [[], []]);
    for (const image of state.images) assert.deepEqual([image.state, image.error], ['skipped', state.error]);
    const status = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout).status;
    assert.deepEqual([status.readiness, status.exitCode, status.nextStep], ['failed', 7, state.error?.remedy]);
  });

  it('of space that no estimate foresees fails the image that does not fit, keeps the others, and goes on after that', async () => {
    const zeros = join(sandbox.work, 'zeros');
    await writeFile(zeros, Buffer.alloc(100 * 1024 * 1024));
    const big = await makeLayer(bundle.store, [{ kind: 'copy', path: 'etc/zeros', from: zeros }]);
    const bomb = await makeImage(bundle.store, { name: 'quay.io/example/zeros', tag: '1', format: 'oci', layers: [bundle.base, big] });
    const directory = await writeFolder(bundle, join(sandbox.work, 'zeros-bundle'), {
      lists: { 'ai-images.txt': [...bundle.images, bomb] },
    });
    await smallStorage('60m');
    const full = await sandbox.run(['--bundle', directory, '--retries', '1', '--scratch', sandbox.work]);
    assert.deepEqual([full.exitCode, statesOf(full.state).map(([, was]) => was)], [3, ['loaded', 'loaded', 'loaded', 'failed']]);
    const error = full.state.images[3]?.error;
    assert.match(error?.message ?? '', /^skopeo could not load quay\.io\/example\/zeros:1 .*no space left on device/);
    assert.equal(error?.remedy, 'Free space below the graphroot, then start the run again: loaded images are kept');
    await assertLoaded(sandbox, bundle.images);
    await assertNothingLeft(sandbox, sandbox.work);

    await output(execOnLinux, 'mount', ['-o', 'remount,size=300m', sandbox.graphroot]);
    const { exitCode, state } = await sandbox.run(['--bundle', directory, '--scratch', sandbox.work]);
    assert.deepEqual([exitCode, statesOf(state).map(([, was]) => was)], [0, ['present', 'present', 'present', 'loaded']]);
    await assertLoaded(sandbox, [...bundle.images, bomb]);
  });

  it('of scratch space refuses to start, with both figures', async () => {
    const scratch = join(sandbox.work, 'scratch');
    await mkdir(scratch);
    await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', scratch]);
    const { exitCode, state } = await run('--scratch', scratch);
    assert.deepEqual([exitCode, state.error?.code], [7, 'ERR_SPACE_SCRATCH']);
    assert.match(
      state.error?.message ?? '',
      /^scratch \S+\/scratch\/prestage-agent-scratch needs [0-9.]+ KiB, but has only 64\.0 KiB free$/,
    );
  });

  it('of cores works on one image at a time and comes to its end', async () => {
    const { exitCode, state } = await sandbox.run(['--bundle', bundle.directory], {}, ['taskset', '-c', '0']);
    assert.deepEqual([exitCode, state.outcome, state.parallel], [0, 'complete', 1]);
    await assertLoaded(sandbox, bundle.images);
  });

  it('of memory takes its scratch where it is told to, and leaves nothing there', async () => {
    const scratch = join(sandbox.work, 'scratch');
    await mkdir(scratch);
    await sandbox.wrap('skopeo', 'echo "$*" >>"$LOG"; exec "$REAL" "$@"');
    const { exitCode } = await run('--scratch', scratch);
    assert.deepEqual([exitCode, await readdir(scratch)], [0, []]);
    for (const call of await sandbox.log()) {
      assert.ok(
        call.startsWith(`--insecure-policy --tmpdir ${scratch}/prestage-agent-scratch/tmp copy `) &&
          call.includes(` dir:${scratch}/prestage-agent-scratch/`),
        call,
      );
    }
  });

  it('of a right clock, in 1970, comes to its end and to a no-op', async (t) => {
    if (LIBFAKETIME === undefined) return t.skip('libfaketime is not installed');
    const env = { LD_PRELOAD: LIBFAKETIME, FAKETIME: '@1970-01-01 00:00:10', FAKETIME_DONT_FAKE_MONOTONIC: '1', TZ: 'UTC' };
    const first = await sandbox.run(['--bundle', bundle.directory], env);
    assert.deepEqual([first.exitCode, first.state.outcome, first.state.startedAt.slice(0, 16)], [0, 'complete', '1970-01-01T00:00']);
    assert.ok((first.state.durationMs ?? 0) > 0 && (first.state.durationMs ?? 0) < 60_000);
    await assertLoaded(sandbox, bundle.images);
    const second = await run();
    assert.deepEqual([second.exitCode, statesOf(second.state).map(([, was]) => was)], [0, ['present', 'present', 'present']]);
  });

  it('of a terminal writes plain lines that count', async () => {
    const { stderr } = await run();
    assert.ok(!stderr.includes('\u001b'), 'there are control sequences');
    const counted = stderr.split('\n').filter((line) => /^\d\/\d loaded quay\.io\//.test(line));
    assert.deepEqual(
      counted.map((line) => line.slice(0, 3)),
      ['1/3', '2/3', '3/3'],
    );
    assert.match(stderr, /^3 images: 0 in storage, 3 to load \([0-9.]+ KiB\)$/m);
  });

  it('of people under systemd tells systemd how far it is, at most every two seconds', async () => {
    await sandbox.wrap('systemd-notify', 'echo "$(date +%s%3N) $*" >>"$LOG"');
    await sandbox.wrap('skopeo', 'sleep 1; exec "$REAL" "$@"');
    await sandbox.run(['--bundle', bundle.directory, '--parallel', '1'], { NOTIFY_SOCKET: join(sandbox.work, 'notify') });
    const calls = (await sandbox.log()).map((line) => /^(\d+) --status=(.*)$/.exec(line) ?? assert.fail(line));
    assert.deepEqual([calls[0]?.[2], calls.length >= 2], ['reading the bundle', true]);
    assert.match(calls.at(-1)?.[2] ?? '', /^[a-z ]+: \d\/3 images/);
    const times = calls.map(([, time]) => Number(time));
    // Programs do not start at the very moment at which they are asked for.
    for (const [index, time] of times.slice(1).entries()) assert.ok(time - (times[index] ?? 0) >= 1500, times.join(', '));
  });

  it('of nothing draws live lines over each other on a terminal, and the totals', async () => {
    await sandbox.wrap('skopeo', 'sleep 0.7; exec "$REAL" "$@"');
    const { exitCode, stdout } = await onTerminal(`run --stage discovery --bundle ${bundle.directory}`);
    assert.equal(exitCode, 0);
    assert.match(stdout, /copying into storage {3}quay\.io\/\S+\r\n/);
    assert.match(stdout, /loading images: \d\/3 images, [0-9.]+ KiB of [0-9.]+ KiB, [^\r\n]+\/s/);
    assert.ok(stdout.includes('\u001b[2A\u001b[J') || stdout.includes('\u001b[3A\u001b[J'), 'no line was drawn over');
    assert.equal((await recordedDigests(sandbox.graphroot)).size, 4);
  });

  it('of colours, by NO_COLOR, gets none on a terminal either', async () => {
    const coloured = await onTerminal('status');
    const plain = await onTerminal('status', { NO_COLOR: '1' });
    assert.deepEqual([coloured.stdout.includes('\u001b['), plain.stdout.includes('\u001b[')], [true, false]);
    assert.match(plain.stdout, /^never-run: no run has left a record on this machine\r\n/);
  });

  /** Runs the executable on a pseudo terminal; its standard error is there, too. Source: script(1). */
  async function onTerminal(args: string, env: Readonly<Record<string, string>> = {}): Promise<AgentResult> {
    const unset = 'NO_COLOR' in env ? '' : '-u NO_COLOR';
    const own = {
      TERM: 'xterm',
      PRESTAGE_ROOT: sandbox.root,
      PATH: `${join(sandbox.work, 'bin')}:${process.env.PATH ?? ''}`,
    };
    return await execOnLinux('script', ['-qec', `env -u FORCE_COLOR ${unset} ${sandbox.executable} ${args}`, '/dev/null'], {
      env: { ...own, ...env },
    });
  }
});
