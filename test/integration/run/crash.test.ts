import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { exitCodes } from '../../../agent/model/errors.ts';
import { sealRecord, unsealRecord } from '../../../agent/model/seal.ts';
import { makeSandbox, mountPointsBelow, type Sandbox, statesOf } from '../../support/agent.ts';
import { extractScenarios } from '../../support/crash/extract.ts';
import { testCrashes } from '../../support/crash/points.ts';
import { copyToDisk, makeDisk, type TestDisk } from '../../support/disk.ts';
import { assertLoaded, assertNothingLeft } from '../../support/loaded.ts';
import { makeTinyBundle, type TinyBundle } from '../../support/tiny-bundle.ts';

const LABEL = `crash-${process.pid}`;
const ARGS = ['--label', LABEL, '--device-wait', '5'];

for (const scenario of extractScenarios) testCrashes(scenario);

describe('a run that is killed', () => {
  let work: string;
  let disk: TestDisk;
  let bundle: TinyBundle;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'crash-'));
    bundle = await makeTinyBundle(work, 2);
    disk = await makeDisk({ directory: work, label: LABEL, partitionMiB: 320 });
    await copyToDisk(disk, work, bundle.directory);
  });
  after(async () => {
    await disk[Symbol.asyncDispose]();
    await rm(work, { recursive: true });
  });

  const expected = () =>
    bundle.images.map((image, index) => (index === 1 ? { ...image, names: [image.reference, bundle.mappedName] } : image));

  it('while skopeo writes leaves skopeo at work, and the next run waits for its end', async () => {
    await using sandbox = await makeSandbox();
    await sandbox.wrap(
      'skopeo',
      'echo "start $$" >>"$LOG"; [ -e "$LOG.fast" ] || sleep 3; "$REAL" "$@"; code=$?; echo "end $$" >>"$LOG"; exit $code',
    );
    const killed = sandbox.start(['run', '--stage', 'discovery', ...ARGS, '--parallel', '1']);
    while ((await sandbox.log()).length === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    killed.process.kill('SIGKILL');
    assert.equal((await killed.ended).exitCode, 128 + 9);
    assert.deepEqual(await mountPointsBelow(sandbox.mountPoint), [sandbox.mountPoint]);
    await writeFile(join(sandbox.work, 'wrapped.log.fast'), '');

    const { exitCode, state } = await sandbox.run(ARGS);
    const [first, second] = await sandbox.log();
    assert.deepEqual([exitCode, first?.replace('start', 'end')], [0, second], 'another skopeo started before the orphan had ended');
    assert.deepEqual(
      statesOf(state)
        .map(([, was]) => was)
        .toSorted(),
      ['loaded', 'present'],
    );
    await assertLoaded(sandbox, expected());
    await assertNothingLeft(sandbox);
  });

  it('by a reboot before its files are known to be on the disk loads its images again', async () => {
    await using sandbox = await makeSandbox();
    await sandbox.agent(['run', '--stage', 'discovery', ...ARGS], { PRESTAGE_CRASH_AT: 'before:sync-storage' });
    const before = await created(sandbox);
    await becomeAnotherBoot(sandbox);
    const status = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout);
    assert.match(status.status.reason, /was interrupted by a reboot or a power cut/);
    assert.deepEqual([status.status.readiness, status.status.exitCode], ['interrupted', exitCodes.interrupted]);

    const { exitCode, state, stderr } = await sandbox.run(ARGS);
    assert.deepEqual([exitCode, state.outcome, state.suspect], [0, 'complete', []]);
    assert.deepEqual(
      statesOf(state),
      bundle.images.map(({ reference }) => [reference, 'loaded']),
    );
    assert.match(stderr, /the machine went down before its files were known to be on the disk/);
    await assertLoaded(sandbox, expected());
    const after = await created(sandbox);
    assert.equal(before.filter((entry) => after.includes(entry)).length, 0, 'a record of before the reboot is still there');
  });

  it('by a reboot after its files were synced loads nothing again', async () => {
    await using sandbox = await makeSandbox();
    await sandbox.run(ARGS);
    await becomeAnotherBoot(sandbox);
    const { exitCode, state } = await sandbox.run(ARGS);
    assert.deepEqual([exitCode, statesOf(state)], [0, bundle.images.map(({ reference }) => [reference, 'present'])]);
  });
});

/** What a reboot makes of the root: nothing in /run, and another boot id than the one on record. */
async function becomeAnotherBoot(sandbox: Sandbox): Promise<void> {
  for (const point of (await mountPointsBelow(sandbox.root)).toReversed()) await output(execOnLinux, 'umount', [point]);
  await rm(join(sandbox.root, 'run'), { recursive: true });
  const state = unsealRecord(await readFile(sandbox.stateFile, 'utf8'));
  await writeFile(sandbox.stateFile, sealRecord({ ...state, bootId: '00000000-0000-4000-8000-000000000000' }));
}

/** Image records with the time at which they were made. */
async function created(sandbox: Sandbox): Promise<readonly string[]> {
  const listed = await output(execOnLinux, 'find', [join(sandbox.graphroot, 'overlay-images'), '-name', 'manifest', '-printf', '%p %T@\n']);
  return listed.trim().split('\n');
}
