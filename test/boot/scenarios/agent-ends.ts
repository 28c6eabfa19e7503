import assert from 'node:assert/strict';
import { appendFile, chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import type { Readiness } from '../../../agent/status/judge.ts';
import { attachDisk } from '../disk.ts';
import { installedRoot } from '../installed.ts';
import type { Machine } from '../machine.ts';
import type { MachineRoot } from '../machine-root.ts';
import { type Scenario, type Trial, withMachine } from '../trial.ts';
import { failedUnits, statusOf, unitFacts } from '../unit.ts';
import { assertContainersRan, pivot, UP_LIMIT_MS, up } from './checks.ts';
import { disk } from './damage.ts';
import { nodeBase } from './node-base.ts';

const UNIT = 'prestage-agent-installed.service';
const LAUNCHER = '/usr/local/bin/prestage-launcher';
const AGENT = '/usr/local/bin/prestage-agent';
const ENVIRONMENT = '/etc/prestage-agent/launcher.env';
const TIME_LIMIT = `/etc/systemd/system/${UNIT}.d/10-limit.conf`;
/** Where an ELF file says for which processor it is. Source: elf(5), e_machine. */
const MACHINE_OFFSET = 18;
/** s390, which no machine of these tests is. */
const OTHER_MACHINE = 22;

/** An end of launcher or agent, how a machine is brought to it, and what `status` must say of it then. */
interface AgentEnd {
  readonly what: string;
  readonly spoil: (at: (path: string) => string) => Promise<void>;
  readonly result: string;
  /** Exit code, or number of the signal. */
  readonly status: number;
  readonly readiness: Readiness;
  readonly reason: RegExp;
}

/** Lines of the launcher's environment, which is shell. What they set holds for the agent that takes the launcher's place. */
const shell = (lines: string) => async (at: (path: string) => string) => await appendFile(at(ENVIRONMENT), lines);

/** The agent's place and pin are those of another program. */
const otherAgent =
  (change: (program: Buffer) => void, mode = 0o755) =>
  async (at: (path: string) => string) => {
    const program = await readFile(at('/usr/bin/true'));
    change(program);
    await writeFile(at(AGENT), program);
    await chmod(at(AGENT), mode);
    await appendFile(at(ENVIRONMENT), `AGENT_SHA256=${hexOf(digestOf(program))}\n`);
  };

const ENDS: readonly AgentEnd[] = [
  {
    what: 'is killed while it works',
    spoil: shell('export PRESTAGE_CRASH_AT=after:record-start:1\n'),
    result: 'signal',
    status: 9,
    readiness: 'interrupted',
    reason:
      /^the run that began at .* ended unexpectedly \(process \d+ is gone: prestage-agent-installed\.service was terminated by SIGKILL\)/,
  },
  {
    what: 'is ended by V8, which gets no memory for its code',
    spoil: shell('ulimit -c 0 -v 300000\n'),
    result: 'signal',
    status: 5,
    readiness: 'interrupted',
    reason: /: prestage-agent-installed\.service was terminated by SIGTRAP$/,
  },
  {
    what: 'aborts',
    spoil: shell('ulimit -c 0; kill -ABRT $$\n'),
    result: 'signal',
    status: 6,
    readiness: 'interrupted',
    reason: /: prestage-agent-installed\.service was terminated by SIGABRT$/,
  },
  {
    what: 'is a program for another processor',
    spoil: otherAgent((program) => void program.writeUInt16LE(OTHER_MACHINE, MACHINE_OFFSET)),
    result: 'exit-code',
    status: 1,
    readiness: 'failed',
    reason: /: prestage-agent-installed\.service ended with exit code 1$/,
  },
  {
    what: 'is not executable',
    spoil: otherAgent(() => {}, 0o644),
    result: 'exit-code',
    status: 126,
    readiness: 'failed',
    reason: /: the launcher of prestage-agent-installed\.service could not execute the agent \(exit code 126\)$/,
  },
  {
    what: 'needs a loader of libraries that is not there',
    spoil: otherAgent((program) => void program.write('/no-linux', program.indexOf('/ld-linux'), 'latin1')),
    result: 'exit-code',
    status: 127,
    readiness: 'failed',
    reason: /: the launcher of prestage-agent-installed\.service could not execute the agent \(exit code 127\)$/,
  },
  {
    what: 'has a launcher that systemd cannot execute',
    spoil: async (at) => await chmod(at(LAUNCHER), 0o644),
    result: 'exit-code',
    status: 203,
    readiness: 'failed',
    reason: /: systemd could not execute the launcher of prestage-agent-installed\.service \(203\/EXEC\)$/,
  },
  {
    what: 'takes longer than it may',
    spoil: async (at) => {
      await shell('trap "" TERM; sleep 600\n')(at);
      await mkdir(dirname(at(TIME_LIMIT)), { recursive: true });
      await writeFile(at(TIME_LIMIT), '[Service]\nTimeoutStartSec=3\nTimeoutStopSec=1\n');
    },
    result: 'timeout',
    status: 9,
    readiness: 'interrupted',
    reason: /: systemd stopped prestage-agent-installed\.service because it exceeded TimeoutStartSec$/,
  },
];

/**
 * A node that has its images, on which launcher or agent end in every way that is not theirs. With the policy `open` all of its services start, as
 * they would without the agent; with `closed` none that needs kubelet's dependencies does. `status` says what happened, and the boot after it, in
 * which nothing is wrong, is as good as ever.
 */
export function agentEnds(name: string, policy: 'open' | 'closed'): Scenario {
  return {
    name,
    run: async (trial) => {
      const bundle = await trial.factory.bundle('oci');
      const base = await nodeBase(bundle, { settings: { delivery: 'extract' }, pull: 'missing' });
      const config = await trial.factory.ignition('installed', { bundle, base, policy, work: trial.work });
      const image = await disk(trial, bundle);
      await using root = await installedRoot(trial.work, 'system.img', config);
      await using data = await attachDisk(image);
      await withMachine(trial, { root, devices: data.nodes }, pivot);
      await withMachine(trial, { root, devices: data.nodes }, async (machine) => {
        await up(machine);
        assert.equal(await machine.powerOff(), 'off');
      });
      for (const end of ENDS) {
        await using _spoilt = await spoil(root, end);
        await withMachine(trial, { root, devices: data.nodes }, async (machine) => {
          await assertEnd(trial, { machine, end, policy });
          if (policy === 'open') await assertContainersRan(machine, bundle);
          assert.equal(await machine.powerOff(), 'off');
        });
      }
      await withMachine(trial, { root, devices: data.nodes }, async (machine) => {
        await up(machine);
        assert.equal((await statusOf(machine)).readiness, 'ready');
        assert.equal(await machine.powerOff(), 'off');
      });
    },
  };
}

interface Ended {
  readonly machine: Machine;
  readonly end: AgentEnd;
  readonly policy: 'open' | 'closed';
}

async function assertEnd(trial: Trial, { machine, end, policy }: Ended): Promise<void> {
  const word = await machine.settled(UP_LIMIT_MS);
  const unit = await unitFacts(machine, UNIT);
  trial.boots.push({ what: `${end.what}, ${unit.result} ${unit.exitCode}` });
  assert.deepEqual([unit.activeState, unit.result, unit.exitCode], ['failed', end.result, end.status], `an agent that ${end.what}`);
  const states = await Promise.all(
    ['kubelet-dependencies.target', 'crio.service', 'kubelet.service'].map(async (name) => (await unitFacts(machine, name)).activeState),
  );
  const expected = policy === 'open' ? 'active' : 'inactive';
  assert.deepEqual(states, [expected, expected, expected], `an agent that ${end.what}`);
  assert.deepEqual([word, await failedUnits(machine)], ['degraded', [UNIT]]);
  const { readiness, reason } = await statusOf(machine, SOUND_AGENT);
  assert.equal(readiness, end.readiness, reason);
  assert.match(reason, end.reason);
}

/** Where the agent lies while its own place has another program. */
const SOUND_AGENT = '/var/lib/agent-of-the-factory';

/** Brings a machine that is not running to an end; the lease mends it. */
async function spoil(root: MachineRoot, end: AgentEnd): Promise<AsyncDisposable> {
  // On a machine that is off, /usr/local is a link to /var by an absolute way of its own.
  const at = (path: string): string => join(root.path, path.replace(/^\/usr\/local\//, '/var/usrlocal/'));
  await copyFile(at(AGENT), at(SOUND_AGENT));
  const environment = await readFile(at(ENVIRONMENT));
  await end.spoil(at);
  return {
    [Symbol.asyncDispose]: async () => {
      await copyFile(at(SOUND_AGENT), at(AGENT));
      await chmod(at(AGENT), 0o755);
      await writeFile(at(ENVIRONMENT), environment);
      await chmod(at(LAUNCHER), 0o755);
      await rm(at(TIME_LIMIT), { force: true });
    },
  };
}
