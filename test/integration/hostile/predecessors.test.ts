import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { gzipSync } from 'node:zlib';
import { asset } from '../../../agent/assets.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { hexOf } from '../../../agent/model/digest.ts';
import { makeSandbox, type Sandbox, statesOf, waitFor } from '../../support/agent.ts';
import { copyToDisk, makeDisk, type TestDisk } from '../../support/disk.ts';
import { assertLoaded, recordedDigests, treeOf } from '../../support/loaded.ts';
import { archivePath, copyFolder, makeTinyBundle, repack, type TinyBundle, writeFolder } from '../../support/tiny-bundle.ts';

const LABEL = `predecessor-${process.pid}`;

/** docs/field-facts.md, "Mistakes of earlier tools": each of them, with the real tools. */
describe('what went wrong in the predecessors does not happen here:', () => {
  let home: Sandbox;
  let bundle: TinyBundle;
  let disk: TestDisk;
  let sandbox: Sandbox;
  let directory: string;
  let copies = 0;
  before(async () => {
    home = await makeSandbox();
    bundle = await makeTinyBundle(home.work);
    disk = await makeDisk({ directory: home.work, label: LABEL, partitionMiB: 32, sizeMiB: 40, filesystem: 'ext4' });
    await copyToDisk(disk, home.work, bundle.directory);
  });
  beforeEach(async () => {
    await sandbox?.[Symbol.asyncDispose]();
    sandbox = await makeSandbox();
    directory = await copyFolder(bundle, join(home.work, `copy-${copies++}`));
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await disk[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const run = async (...args: readonly string[]) => await sandbox.run(['--bundle', directory, '--retries', '0', ...args]);
  const reference = (index: number): string => bundle.images[index]?.reference ?? assert.fail(`no image ${index}`);

  it('exit 0 whatever failed', async () => {
    await sandbox.wrap('skopeo', 'exit 1');
    assert.equal((await run()).exitCode, 4);
    assert.equal((await run('--policy', 'open')).exitCode, 68);
    assert.equal((await sandbox.run(['--label', `${LABEL}-none`, '--device-wait', '0'])).exitCode, 5);
    assert.equal((await sandbox.run(['--label', `${LABEL}-none`, '--device-wait', '0', '--policy', 'open'])).exitCode, 69);
  });

  it('a retry that copies the wrong image and reports success', async () => {
    await sandbox.wrap('skopeo', 'echo "$*" >>"$LOG"; [ "$(wc -l <"$LOG")" -le 2 ] && exit 1; exec "$REAL" "$@"');
    const { exitCode, state } = await sandbox.run(['--bundle', directory, '--retries', '5']);
    assert.equal(exitCode, 0);
    assert.ok(state.images.some(({ attempts }) => (attempts ?? 0) > 1));
    await assertLoaded(sandbox, bundle.images);
  });

  it('a pool of floor(0.8 x cores) = 0 that hangs on one core', async () => {
    const { exitCode, state } = await sandbox.run(['--bundle', directory], {}, ['taskset', '-c', '0']);
    assert.deepEqual([exitCode, state.parallel], [0, 1]);
  });

  it('rm -rf of the mount point after a failed umount, deleting the payload', async () => {
    await sandbox.wrap('skopeo', 'sleep 2; exec "$REAL" "$@"');
    const started = sandbox.start(['run', '--stage', 'discovery', '--label', LABEL]);
    await waitFor('the mount', async () => ((await readdir(sandbox.mountPoint).catch(() => [])).length > 0 ? true : undefined));
    const payload = await treeOf(sandbox.mountPoint);
    const squatter = spawn('sleep', ['600'], { cwd: sandbox.mountPoint, stdio: 'ignore' });
    assert.equal((await started.ended).exitCode, 5);
    assert.equal(await treeOf(sandbox.mountPoint), payload);
    squatter.kill();
    await once(squatter, 'exit');
    assert.equal((await sandbox.run(['--label', LABEL])).exitCode, 0);
    await copyToDisk(disk, home.work, bundle.directory);
  });

  it('unpacking onto the data partition, which must then be writable', async () => {
    const bytes = async () => await output(execOnLinux, 'sha256sum', [disk.partition]);
    const untouched = await bytes();
    assert.equal((await sandbox.run(['--label', LABEL])).exitCode, 0);
    assert.equal(await bytes(), untouched);
  });

  it('names that collide', async () => {
    const [one, two] = ['quay.io/first/tool:latest', 'quay.io/second/tool:latest'];
    await writeFile(join(directory, 'ai-images.txt'), `${one}\n${two}\n`);
    const { exitCode, state } = await run();
    assert.deepEqual([exitCode, state.images.map(({ error }) => error?.code)], [4, ['ERR_ARCHIVE_COLLISION', 'ERR_ARCHIVE_COLLISION']]);
    assert.ok(state.images[0]?.error?.message.includes('quay.io/second/tool'));
    assert.equal((await recordedDigests(sandbox.graphroot)).size, 0);
  });

  it('references used as grep patterns', async () => {
    const [image] = bundle.images;
    assert.ok(image);
    const dotted = { ...image, reference: 'quay.io/example/a.b:1' };
    const other = { ...image, reference: 'quay.io/example/a-b:1' };
    const both = await writeFolder(bundle, join(sandbox.work, 'dots'), { lists: { 'ai-images.txt': [dotted, other] } });
    const first = await writeFolder(bundle, join(sandbox.work, 'first'), { lists: { 'ai-images.txt': [other] } });
    await sandbox.run(['--bundle', first]);
    const { exitCode, state } = await sandbox.run(['--bundle', both]);
    assert.deepEqual(
      [exitCode, statesOf(state)],
      [
        0,
        [
          ['quay.io/example/a.b:1', 'loaded'],
          ['quay.io/example/a-b:1', 'present'],
        ],
      ],
    );
    await assertLoaded(sandbox, [dotted, other]);
  });

  it('404 pages saved as archives', async () => {
    const page = '<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n';
    await writeFile(archivePath(directory, reference(1)), page);
    await writeFile(archivePath(directory, reference(2)), gzipSync(page));
    const { exitCode, state } = await run();
    assert.deepEqual([exitCode, state.images.map(({ error }) => error?.code)], [3, [undefined, 'ERR_ARCHIVE_FORMAT', 'ERR_ARCHIVE_TAR']]);
  });

  it('no digest ever checked', async () => {
    const layer = hexOf(bundle.images[1]?.instances[0]?.layers[1]?.digest ?? assert.fail('no layer'));
    await repack(directory, reference(1), async (layout) => {
      const { size } = await stat(join(layout, layer));
      await writeFile(join(layout, layer), Buffer.alloc(size, 'another layer'));
    });
    const { state } = await run();
    assert.equal(state.images[1]?.error?.code, 'ERR_ARCHIVE_DIGEST');
    assert.equal((await recordedDigests(sandbox.graphroot)).has(reference(1)), false);
  });

  it('equal-size corruption accepted', async () => {
    const layer = hexOf(bundle.images[2]?.instances[0]?.layers[1]?.digest ?? assert.fail('no layer'));
    await repack(directory, reference(2), async (layout) => {
      const bytes = await readFile(join(layout, layer));
      await writeFile(join(layout, layer), bytes.fill(0x5a, bytes.length >> 1, (bytes.length >> 1) + 16));
    });
    const { exitCode, state } = await run();
    assert.deepEqual(
      [exitCode, statesOf(state).map(([, was]) => was), state.images[2]?.error?.code],
      [3, ['loaded', 'loaded', 'failed'], 'ERR_ARCHIVE_DIGEST'],
    );
  });

  it('`skipped` without a reason', async () => {
    await sandbox.wrap('skopeo', 'echo start >>"$LOG"; sleep 2; exec "$REAL" "$@"');
    const started = sandbox.start(['run', '--stage', 'discovery', '--bundle', directory, '--parallel', '1']);
    await waitFor('skopeo', async () => (await sandbox.log())[0]);
    started.process.kill('SIGTERM');
    await started.ended;
    const { status } = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout);
    const skipped = status.images.filter((image: { state: string }) => image.state === 'skipped');
    assert.equal(skipped.length, 2);
    for (const image of skipped)
      assert.deepEqual(
        [image.reason, image.error.remedy],
        ['the run was interrupted', 'Start the run again; it continues where it stopped'],
      );
  });

  it('a unit that runs once and never reloads', async () => {
    await run();
    await sandbox.podman('rmi', '--all', '--force');
    assert.equal((await recordedDigests(sandbox.graphroot)).size, 0);
    const { exitCode, state } = await run();
    assert.deepEqual([exitCode, statesOf(state).map(([, was]) => was)], [0, ['loaded', 'loaded', 'loaded']]);
    for (const unit of units()) assert.ok(!/ConditionPathExists=!|ConditionFirstBoot|systemctl disable/.test(unit), unit);
  });

  it('ordering without After=crio-wipe', () => {
    const [, installed = ''] = units();
    const after = installed
      .split('\n')
      .filter((line) => line.startsWith('After='))
      .flatMap((line) => line.slice('After='.length).split(' '));
    assert.ok(after.includes('crio-wipe.service'), after.join(' '));
  });

  it('decimal mode 755', async () => {
    for (const stage of ['discovery', 'installed']) {
      const { stdout } = await sandbox.agent(['ignition', stage]);
      const modes = [...stdout.matchAll(/"mode":\s*(\d+)/g)].map(([, mode]) => Number(mode));
      assert.ok(modes.length > 0 && modes.every((mode) => mode === 0o755 || mode === 0o644), modes.join(', '));
    }
  });
});

/** The unit of the discovery stage and that of the installed one, before they are filled in. */
function units(): readonly string[] {
  return ['discovery', 'installed'].map((stage) => asset(`agent/units/prestage-agent-${stage}.service`));
}
