import assert from 'node:assert/strict';
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { waitFor } from '../../support/agent.ts';
import { lengthenStores, makeLongBundle } from '../../support/long-store.ts';
import { attachDisk, editData, holdersOf } from '../disk.ts';
import type { Bundle } from '../factory.ts';
import { installedRoot } from '../installed.ts';
import type { Machine } from '../machine.ts';
import { type Scenario, type Trial, withMachine } from '../trial.ts';
import { failedUnits, statusOf } from '../unit.ts';
import { assertContainersRan, pivot, UP_LIMIT_MS, up } from './checks.ts';
import { disk } from './damage.ts';
import { nodeBase } from './node-base.ts';

const CHECK_UNIT = 'prestage-check.service';
const AGENT = '/usr/local/bin/prestage-agent';
/** A bundle in the machine, besides that of its partition. */
const OTHER = '/var/other';
const SETTINGS = { delivery: 'mount', placement: 'partition', trust: 'background' };
const RUN = ['run', '--stage', 'installed', '--policy', 'closed'];

/**
 * The check of an installed node works for minutes. Runs of the same bundle keep it, a run of another bundle and a release end it, and none of them
 * fails by it.
 */
export function busyCheck(name: string): Scenario {
  return {
    name,
    run: async (trial) => {
      const bundle = await trial.factory.bundle('store');
      const long = await longBundle(trial, bundle);
      await onNode(trial, { bundle, pinned: long, change: lengthenStores }, async (machine, holders) => {
        await up(machine);
        await assertContainersRan(machine, bundle);
        const check = await checkPid(machine);
        await agent(machine, RUN);
        assert.equal(await checkPid(machine), check);
        await agent(machine, [...RUN, '--bundle', OTHER]);
        assert.notEqual(await checkPidNow(machine), check);
        await assertVerified(machine);
        await agent(machine, RUN);
        await checkPid(machine);
        await agent(machine, ['release', '--yes']);
        assert.deepEqual([await checkPidNow(machine), await holders(), await failedUnits(machine)], [0, [], []]);
        assert.equal(await machine.powerOff(), 'off');
      });
    },
  };
}

interface Node {
  readonly bundle: Bundle;
  /** What ignition pins. */
  readonly pinned: Bundle;
  /** Makes of the bundle on the partition the pinned one. */
  readonly change: (top: string) => Promise<void>;
}

/** A node that was installed, with its partition, in its second boot. */
async function onNode(
  trial: Trial,
  { bundle, pinned, change }: Node,
  act: (machine: Machine, holders: () => Promise<readonly string[]>) => Promise<void>,
): Promise<void> {
  const base = await nodeBase(bundle, { settings: SETTINGS });
  const config = await trial.factory.ignition('installed', { bundle: pinned, base, policy: 'open', work: trial.work });
  const image = await disk(trial, bundle);
  await editData(image, change);
  await using root = await installedRoot(trial.work, 'system.img', config);
  await cp(bundle.directory, join(root.path, OTHER), { recursive: true });
  for (const live of [pivot, act]) {
    await using data = await attachDisk(image);
    await withMachine(trial, { root, devices: data.nodes }, async (machine) => {
      await live(machine, async () => await holdersOf(data, machine.leader));
    });
  }
}

async function longBundle(trial: Trial, bundle: Bundle): Promise<Bundle> {
  const directory = join(trial.work, 'long');
  await makeLongBundle(bundle.directory, directory);
  return { ...bundle, directory, sha256: hexOf(digestOf(await readFile(join(directory, 'prestage.json')))) };
}

async function agent(machine: Machine, args: readonly string[]): Promise<void> {
  const { exitCode, stdout, stderr } = await machine.run([AGENT, ...args]);
  assert.equal(exitCode, 0, `prestage-agent ${args.join(' ')} ended with ${exitCode}: ${stdout}${stderr}`);
}

/** The check's process, once there is one. */
async function checkPid(machine: Machine): Promise<number> {
  return await waitFor('the check', async () => (await checkPidNow(machine)) || undefined, UP_LIMIT_MS);
}

/** 0 where there is none. Source: systemctl(1), show. */
async function checkPidNow(machine: Machine): Promise<number> {
  return Number((await machine.output(['systemctl', 'show', '--property=MainPID', '--value', CHECK_UNIT])).trim());
}

/** The store that is open has been found intact, stays mounted, and its images are there. */
async function assertVerified(machine: Machine): Promise<void> {
  await waitFor('the end of the check', async () => ((await checkPidNow(machine)) === 0 ? true : undefined), UP_LIMIT_MS);
  assert.match(await machine.output(['cat', '/run/prestage-agent/store.json']), /"verified": ?"yes"/);
  await machine.output(['mountpoint', '/var/lib/prestage-agent/store']);
  assert.equal((await statusOf(machine)).readiness, 'ready');
}
