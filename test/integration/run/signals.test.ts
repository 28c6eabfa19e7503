import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { parseRunState, type RunState } from '../../../agent/model/run-state.ts';
import {
  type AgentResult,
  makeSandbox,
  mountPointsBelow,
  type Sandbox,
  type StartedAgent,
  statesOf,
  waitFor,
} from '../../support/agent.ts';
import { copyToDisk, makeDisk, type TestDisk } from '../../support/disk.ts';
import { assertLoaded, assertNothingLeft } from '../../support/loaded.ts';
import { makeTinyBundle, type TinyBundle } from '../../support/tiny-bundle.ts';

const LABEL = `signals-${process.pid}`;
const RUN = ['run', '--stage', 'discovery', '--label', LABEL, '--parallel', '1', '--output', 'json'];
/** Takes its time, and is fast once a file is there. */
const SLOW = 'echo "$*" >>"$LOG"; [ -e "$LOG.fast" ] || sleep 2; exec "$REAL" "$@"';

describe('a run on a partition', () => {
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
    await sandbox.wrap('skopeo', SLOW);
  });
  after(async () => {
    await sandbox[Symbol.asyncDispose]();
    await disk[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const startLoading = async (): Promise<StartedAgent> => {
    const started = sandbox.start(RUN);
    await waitFor('skopeo', async () => (await sandbox.log())[0]);
    return started;
  };
  const beFast = async () => await writeFile(join(sandbox.work, 'wrapped.log.fast'), '');
  const completes = async (present: number) => {
    await beFast();
    const result = await sandbox.agent(RUN);
    const states = statesOf(stateOf(result)).map(([, was]) => was);
    assert.deepEqual([result.exitCode, states.filter((was) => was === 'present').length], [0, present], result.stderr);
    await assertLoaded(sandbox, bundle.images);
    await assertNothingLeft(sandbox);
  };

  it('lets the image at work come to its end at SIGTERM, gives everything back, and goes on from there later', async () => {
    const started = await startLoading();
    started.process.kill('SIGTERM');
    const result = await started.ended;
    const state = stateOf(result);
    assert.deepEqual([result.exitCode, state.outcome, state.phase], [11, 'interrupted', 'finished']);
    assert.deepEqual(
      statesOf(state)
        .map(([, was]) => was)
        .toSorted(),
      ['loaded', 'skipped', 'skipped'],
    );
    for (const image of state.images.filter((candidate) => candidate.state === 'skipped')) {
      const error = {
        code: 'ERR_INTERRUPTED',
        message: 'the run was interrupted',
        remedy: 'Start the run again; it continues where it stopped',
      };
      assert.deepEqual([image.reason, image.error], [error.message, error]);
    }
    assert.deepEqual([state.unsynced, (await sandbox.log()).length], [[], 1]);
    await assertNothingLeft(sandbox);
    const status = await sandbox.agent(['status']);
    assert.equal(status.exitCode, 11);
    assert.match(status.stdout, /^interrupted: the run that began at \S+ (?:\(.* ago\) )?was asked to stop/);
    await completes(1);
  });

  it('ends the copy at the second SIGTERM, leaves no half image, and goes on from there later', async () => {
    await sandbox.wrap('skopeo', 'echo "$*" >>"$LOG"; [ -e "$LOG.fast" ] || exec sleep 60; exec "$REAL" "$@"');
    const started = await startLoading();
    started.process.kill('SIGTERM');
    await new Promise((resolve) => setTimeout(resolve, 300));
    started.process.kill('SIGTERM');
    const result = await started.ended;
    const state = stateOf(result);
    assert.deepEqual([result.exitCode, state.outcome], [11, 'interrupted']);
    assert.deepEqual(
      statesOf(state).map(([, was]) => was),
      ['skipped', 'skipped', 'skipped'],
    );
    assert.ok((state.durationMs ?? 0) < 20_000, `it took ${state.durationMs} ms`);
    await assertNothingLeft(sandbox);
    await completes(0);
  });

  it('ends at once at SIGINT while it waits for its partition', async () => {
    const started = sandbox.start([...RUN, '--label', `nowhere-${process.pid}`, '--device-wait', '600']);
    await waitFor('the state', async () => await readinessOf(sandbox, 'running'));
    started.process.kill('SIGINT');
    const result = await started.ended;
    assert.deepEqual([result.exitCode, stateOf(result).outcome, stateOf(result).error?.code], [11, 'interrupted', 'ERR_INTERRUPTED']);
  });

  it('refuses a second instance, naming the first', async () => {
    const first = await startLoading();
    const second = await sandbox.agent(RUN);
    assert.equal(second.exitCode, 8);
    assert.deepEqual(JSON.parse(second.stderr), {
      apiVersion: 'prestage-agent/v1',
      kind: 'Error',
      error: {
        code: 'ERR_LOCKED',
        message: `${join(sandbox.root, 'run/prestage-agent/lock')} is held by process ${first.pid} (run --stage discovery); waited 0 s`,
        remedy: 'Wait until it ends, or give --lock-wait SECONDS; to watch it, run: prestage-agent status --watch',
        exitCode: 8,
      },
    });
    await beFast();
    assert.equal((await first.ended).exitCode, 0);
  });

  it('lets a second instance wait that is asked to, which then finds nothing to do', async () => {
    const first = await startLoading();
    await beFast();
    const second = await sandbox.agent([...RUN, '--lock-wait', '60']);
    assert.equal((await first.ended).exitCode, 0);
    assert.deepEqual([second.exitCode, statesOf(stateOf(second)).map(([, was]) => was)], [0, ['present', 'present', 'present']]);
  });

  it('gives its lock back when it is killed, and the next run takes over its mount', async () => {
    const first = await startLoading();
    first.process.kill('SIGKILL');
    assert.equal((await first.ended).exitCode, 128 + 9);
    assert.deepEqual(await mountPointsBelow(sandbox.mountPoint), [sandbox.mountPoint]);
    const status = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout).status;
    assert.deepEqual([status.readiness, status.exitCode], ['interrupted', 11]);
    assert.match(status.reason, new RegExp(`ended unexpectedly \\(process ${first.pid} is gone\\)`));
    await completes(1);
  });

  it('is not stopped by what stands in the way of its lock file', async () => {
    await beFast();
    await sandbox.agent(RUN);
    await rm(join(sandbox.root, 'run/prestage-agent/lock.holder'));
    await writeFile(join(sandbox.root, 'run/prestage-agent/lock.holder'), 'no json');
    await completes(3);
  });
});

function stateOf(result: AgentResult): RunState {
  const state = parseRunState(result.stdout);
  if (state === undefined) throw new Error(`no state: ${result.stdout}${result.stderr}`);
  return state;
}

async function readinessOf(sandbox: Sandbox, wanted: string): Promise<string | undefined> {
  const { readiness } = JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout).status;
  return readiness === wanted ? wanted : undefined;
}
