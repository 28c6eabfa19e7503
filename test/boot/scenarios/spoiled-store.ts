import assert from 'node:assert/strict';
import { waitFor } from '../../support/agent.ts';
import { attachDisk, editData, holdersOf } from '../disk.ts';
import { installedRoot } from '../installed.ts';
import type { Machine } from '../machine.ts';
import { type Scenario, type Trial, withMachine } from '../trial.ts';
import { statusOf, unitFacts } from '../unit.ts';
import { assertContainersRan, assertNoRetries, pivot, UP_LIMIT_MS, up } from './checks.ts';
import { disk, spoilInstalledStore } from './damage.ts';
import { nodeBase } from './node-base.ts';

const INSTALLED_UNIT = 'prestage-agent-installed.service';

/**
 * The store image of an installed node goes bad between two boots. It is mounted where it lies and hashed while the boot goes on: what was found
 * then takes it away, and the engines go on without. Once the partition is whole again, so is the node at its next boot.
 */
export function spoiledStore(name: string): Scenario {
  return {
    name,
    run: async (trial) => {
      const bundle = await trial.factory.bundle('store');
      const base = await nodeBase(bundle, { settings: { delivery: 'mount', placement: 'partition', trust: 'background' } });
      const config = await trial.factory.ignition('installed', { bundle, base, policy: 'open', work: trial.work });
      const image = await disk(trial, bundle);
      await using root = await installedRoot(trial.work, 'system.img', config);
      const onNode = async (act: (machine: Machine, holders: () => Promise<readonly string[]>) => Promise<void>): Promise<void> => {
        await using data = await attachDisk(image);
        await withMachine(trial, { root, devices: data.nodes }, async (machine) => {
          await act(machine, async () => await holdersOf(data, machine.leader));
        });
      };
      await onNode(pivot);
      await editData(image, spoilInstalledStore);
      await onNode(async (machine, holders) => {
        await waitFor('the healing', async () => ((await isHealed(machine)) ? true : undefined), UP_LIMIT_MS);
        assert.deepEqual(await holders(), []);
        await machine.output(['podman', 'images']);
        assert.equal(await machine.powerOff(), 'off');
      });
      await editData(image, spoilInstalledStore);
      await onNode(async (machine) => {
        await up(machine);
        await record(trial, machine, 'whole again');
        await assertContainersRan(machine, bundle);
        await assertNoRetries(machine);
        assert.equal((await statusOf(machine)).readiness, 'ready');
        assert.equal(await machine.powerOff(), 'off');
      });
    },
  };
}

/**
 * Whether the check has found the damage and healed the node. Before that the node can be degraded for another reason: the registry runs from the
 * store image, and the spoilt byte can be its own. There is no status before the executable has come onto the node.
 */
async function isHealed(machine: Machine): Promise<boolean> {
  const { activeState } = await unitFacts(machine, INSTALLED_UNIT).catch(() => ({ activeState: 'unknown' }));
  if (activeState !== 'active') return false;
  const { readiness, reason } = await statusOf(machine);
  return readiness === 'degraded' && /store image/.test(reason);
}

async function record(trial: Trial, machine: Machine, what: string): Promise<void> {
  const { seconds } = await unitFacts(machine, INSTALLED_UNIT);
  trial.boots.push({ what, secondsUnitToReady: seconds });
}
