import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Readiness } from '../../../agent/status/judge.ts';
import { DISCOVERY_UNIT, type DiscoveryOptions, discoveryRoot } from '../discovery.ts';
import { attachDisks, holdersOf } from '../disk.ts';
import type { Bundle, PayloadKind } from '../factory.ts';
import { messagesOf } from '../journal.ts';
import type { Machine } from '../machine.ts';
import { type Scenario, type Trial, withMachine } from '../trial.ts';
import { statusOf, unitFacts } from '../unit.ts';

/** A discovery in which something is wrong with the disks, and what must come of it. */
export interface FaultOptions extends Omit<DiscoveryOptions, 'bundle'> {
  readonly name: string;
  readonly payload: PayloadKind;
  /** Makes the disks of the machine; their images' paths. */
  readonly disks: (trial: Trial, bundle: Bundle) => Promise<readonly string[]>;
  /** Seconds into the boot at which the disks come; they are there from the start where left out. */
  readonly lateSeconds?: number;
  readonly expect: FaultExpectation;
}

export interface FaultExpectation {
  /** Of our unit's process. */
  readonly exitCode: number;
  /** What it must have said. */
  readonly says?: RegExp;
  /** What became of the assisted agent: its image was there; it had to ask the network; or it was not started. */
  readonly agent: 'ran' | 'asked' | 'kept back';
  /** What `status` says; undefined where no executable came onto the node. */
  readonly readiness?: Readiness;
  /** A file that must not be there. */
  readonly absent?: string;
}

const LIMIT_MS = 180_000;

export function discoveryFault(options: FaultOptions): Scenario {
  return {
    name: options.name,
    run: async (trial) => {
      const bundle = await trial.factory.bundle(options.payload);
      await using disks = await attachDisks(await options.disks(trial, bundle));
      await using root = await discoveryRoot(trial, { ...options, bundle });
      const nodes = disks.all.flatMap((disk) => disk.nodes);
      await withMachine(trial, { root, devices: options.lateSeconds === undefined ? nodes : [] }, async (machine) => {
        if (options.lateSeconds !== undefined) await plugLate(machine, nodes, options.lateSeconds);
        await machine.settled(LIMIT_MS);
        const unit = await unitFacts(machine, DISCOVERY_UNIT);
        trial.boots.push({ what: 'discovery', secondsUnitToReady: unit.seconds });
        const { exitCode, says, agent, readiness, absent } = options.expect;
        assert.deepEqual([unit.exitCode, unit.activeState], [exitCode, exitCode === 0 || exitCode > 64 ? 'active' : 'failed']);
        if (says !== undefined) assert.match((await messagesOf(root.journal, DISCOVERY_UNIT)).join('\n'), says);
        assert.equal(await agentOutcome(machine), agent);
        if (readiness !== undefined) assert.equal((await statusOf(machine)).readiness, readiness);
        if (absent !== undefined) assert.notEqual((await machine.run(['test', '-e', absent])).exitCode, 0, `${absent} is there`);
        for (const disk of disks.all) assert.deepEqual(await holdersOf(disk, machine.leader), []);
        assert.equal(await machine.powerOff(), 'off');
      });
    },
  };
}

async function agentOutcome(machine: Machine): Promise<FaultExpectation['agent'] | 'started and failed'> {
  const { activeState } = await unitFacts(machine, 'agent.service');
  if ((await machine.run(['test', '-e', '/run/agent-pulls'])).exitCode === 0) return 'asked';
  if ((await machine.run(['test', '-e', '/run/agent-ran'])).exitCode === 0) return 'ran';
  return activeState === 'inactive' ? 'kept back' : 'started and failed';
}

async function plugLate(machine: Machine, nodes: readonly string[], seconds: number): Promise<void> {
  await sleep(seconds * 1000);
  assert.equal((await unitFacts(machine, DISCOVERY_UNIT)).activeState, 'activating', 'the unit did not wait for the disk');
  for (const node of nodes) await machine.plug(node);
}
