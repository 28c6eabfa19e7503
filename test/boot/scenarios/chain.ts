import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import type { IgnitionSpec } from '../../../agent/units/config.ts';
import { allowedRegistries, RHEL_KEY, releasePolicy, rhelPolicy } from '../../support/policies.ts';
import { hasOperatorTexts, OPERATOR_FILES } from '../base.ts';
import { DISCOVERY_UNIT, discoveryRoot } from '../discovery.ts';
import { type AttachedDisk, attachDisks, holdersOf, makeImage } from '../disk.ts';
import { type Bundle, DISK_MIB, type PayloadKind } from '../factory.ts';
import { type Footprint, footprint } from '../footprint.ts';
import { applyIgnition } from '../ignition.ts';
import { messagesOf, unitTimes } from '../journal.ts';
import type { Machine } from '../machine.ts';
import { diskRoot, type MachineRoot } from '../machine-root.ts';
import { type MemoryWatch, watchMemory } from '../memory.ts';
import { DISCOVERY_UNITS, INSTALLED_UNITS, readTimeline } from '../timeline.ts';
import { type BootRecord, type Scenario, type Trial, withMachine } from '../trial.ts';
import { outOfOrder, statusOf, unitFacts } from '../unit.ts';
import { assertContainersRan, assertNoRetries, assertReadOnlySystem, assertToldOnce, pivot, up } from './checks.ts';
import { nodeBase } from './node-base.ts';

/** The whole life of a node, with what may differ. */
export interface ChainOptions {
  readonly name: string;
  readonly payload: PayloadKind;
  /** Of /etc/prestage-agent/config.yaml, by stage. */
  readonly discovery?: Readonly<Record<string, string>>;
  readonly installed?: Readonly<Record<string, string>>;
  /** Whether the data partition is on another disk than the one that is installed to. */
  readonly hasDiskOfItsOwn?: boolean;
  /** Whether a registry on the node answers for the images, so that `podman pull` succeeds for what is there already. */
  readonly mirrors: boolean;
  readonly policy?: 'open' | 'closed';
  /** What the cluster demands of images: signatures, which the bundle has, or registries that it allows. */
  readonly demands?: 'signatures' | 'allowed registries';
  /** Whether the assisted agent is an image of registry.redhat.io, for which the policy of RHEL on the live ISO demands a GPG signature. */
  readonly isAgentSigned?: boolean;
  readonly discoverySpec?: IgnitionSpec;
  readonly installedSpec?: IgnitionSpec;
  /** How the installed machine ends, boot by boot after the first one: 3 clean stops where left out. */
  readonly stops?: readonly ('clean' | 'power-cut')[];
}

/** Longest time that our unit may take where nothing is to do, on cores that it has for itself. */
const NO_OP_SECONDS = 2;
/** The same where everything is loaded again. */
const RESTORE_SECONDS = 60;
/** Where the assisted agent puts what the service gave it for the host. */
const HOST_IGNITION = '/etc/host.ign';
const INSTALLED_UNIT = 'prestage-agent-installed.service';

/** Factory, discovery, installation, first boot and pivot, and some boots more; all on a read-only /usr, of which /usr/local is on /var. */
export function chain(options: ChainOptions): Scenario {
  return {
    name: options.name,
    run: async (trial) => {
      const bundle = await bundleOf(trial, options);
      const data = await trial.factory.disk(trial.work, 'data.img', bundle);
      const images = options.hasDiskOfItsOwn ? [await makeImage(join(trial.work, 'system.img'), DISK_MIB), data] : [data];
      for (const live of [discover, liveInstalled]) {
        await using disks = await attachDisks(images);
        const [system] = disks.all;
        assert.ok(system !== undefined);
        await live(trial, options, { bundle, system, devices: disks.all.flatMap(({ nodes }) => nodes) });
      }
    },
  };
}

async function bundleOf({ factory }: Trial, { payload, demands, isAgentSigned }: ChainOptions): Promise<Bundle> {
  if (isAgentSigned) return await factory.gpgSignedBundle(payload);
  return await (demands === 'signatures' ? factory.signedBundle(payload) : factory.bundle(payload));
}

interface Node {
  readonly bundle: Bundle;
  /** The disk that is installed to, which also holds the data partition where that has no disk of its own. */
  readonly system: AttachedDisk;
  readonly devices: readonly string[];
}

/** The live system: our unit, then the assisted agent, then a disk that is free, then the installer. */
async function discover(trial: Trial, options: ChainOptions, { bundle, system, devices }: Node): Promise<void> {
  const { policy = 'open', discovery, discoverySpec } = options;
  const host = await hostIgnition(trial, options, bundle);
  await using root = await discoveryRoot(trial, { bundle, policy, spec: discoverySpec, settings: discovery, files: rhelFiles(bundle) });
  await writeFile(join(root.path, HOST_IGNITION), host);
  await withMachine(trial, { root, devices }, async (machine) => {
    const memory = watchMemory(machine, DISCOVERY_UNIT);
    await up(machine);
    const unit = await unitFacts(machine, DISCOVERY_UNIT);
    const timeline = await readTimeline(root, DISCOVERY_UNIT, DISCOVERY_UNITS);
    trial.boots.push({ ...(await bootRecord('discovery', unit, memory)), timeline });
    assert.deepEqual([unit.activeState, unit.exitCode], ['active', 0]);
    assert.deepEqual(await outOfOrder(root.journal, [[DISCOVERY_UNIT, 'agent.service']]), []);
    assert.equal(await machine.output(['cat', '/run/agent-ran']), 'agent');
    const pulled = (await machine.run(['cat', '/run/agent-pulls'])).stdout;
    // What oc-mirror has written can only be served.
    const isServed = discovery?.delivery === 'registry' || options.payload === 'oc-mirror';
    const expected = isServed ? `pulled ${bundle.set.images.agent.reference}` : '';
    assert.equal(pulled, expected, 'whether the image of the assisted agent was pulled, from the registry of the node, or was there');
    assert.equal((await statusOf(machine)).readiness, 'ready');
    if (bundle.gpgKey !== undefined) await assertKeyDecides(machine, bundle.set.images.agent.reference);
    await assertReadOnlySystem(machine);
    assert.deepEqual(await holdersOf(system, machine.leader), []);
    const install = ['install', '--ignition-file', HOST_IGNITION, '--save-partlabel', 'data', system.device];
    await machine.output(['/usr/local/bin/coreos-installer', ...install]);
    assert.equal(await machine.powerOff(), 'off');
  });
}

/** What RHEL has on its live ISO, with the key of a test; nothing if the images of a bundle have no such signatures. */
function rhelFiles({ gpgKey }: Bundle): Readonly<Record<string, string | Buffer>> {
  if (gpgKey === undefined) return {};
  return {
    '/etc/containers/policy.json': rhelPolicy.policy,
    '/etc/containers/registries.d/registry.redhat.io.yaml': rhelPolicy.signatures,
    [RHEL_KEY]: gpgKey,
  };
}

/** Without the key of the live ISO the pull that went well before is refused: the policy is in force. */
async function assertKeyDecides(machine: Machine, reference: string): Promise<void> {
  const { exitCode, stderr } = await machine.run(['sh', '-c', `: >${RHEL_KEY} && podman pull ${reference}`]);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, /signature|rejected/i);
}

/** The config that the installer puts on the disk: what an installed node has, with our override merged in. */
export async function hostIgnition(
  trial: Pick<Trial, 'factory' | 'work' | 'notes'>,
  options: Pick<ChainOptions, 'installed' | 'installedSpec' | 'mirrors' | 'policy' | 'demands'>,
  bundle: Bundle,
): Promise<string> {
  const base = await nodeBase(bundle, {
    ...(options.installedSpec !== undefined && { spec: options.installedSpec }),
    ...(bundle.system !== undefined && { osImage: bundle.system }),
    settings: options.installed ?? {},
    ...(options.demands !== undefined && {
      policy: options.demands === 'signatures' ? releasePolicy(trial.factory.signingKey) : allowedRegistries,
    }),
    pull: options.mirrors ? 'always' : 'missing',
  });
  if (!hasOperatorTexts()) trial.notes.push('the texts of the Machine Config Operator are not beside the checkout: stand-ins were used');
  return await trial.factory.ignition('installed', { bundle, base, policy: options.policy ?? 'open', work: trial.work });
}

/** The written disk: first boot with the pivot, then boots that have nothing to do. */
async function liveInstalled(trial: Trial, options: ChainOptions, { bundle, system, devices }: Node): Promise<void> {
  const partition = system.partition('root');
  assert.ok(partition !== undefined, 'the installer left no root partition');
  if (!options.hasDiskOfItsOwn) assert.ok(system.partition('data') !== undefined, 'the installer did not keep the data partition');
  await using root = await diskRoot(trial.work, partition);
  const sysroot = join(root.path, '../sysroot');
  await applyIgnition(await readFile(join(sysroot, 'ignition/config.ign'), 'utf8'), root.path, trial.work);
  const owned = await operatorFiles(root);
  await firstBoot(trial, root, devices);
  const stops = options.stops ?? ['clean', 'clean', 'clean'];
  // A boot that restores what a wipe took says more in its record than one that has nothing to do.
  const last = new Map<boolean, Footprint>();
  const noOps: string[] = [];
  for (const [index, stop] of stops.entries()) {
    const what = `boot ${index + 2}`;
    const restores = stops[index - 1] === 'power-cut' && !options.mirrors;
    if (!restores) noOps.push(what);
    const after = await withMachine(trial, { root, devices }, async (machine) => {
      const left = await laterBoot(trial, {
        machine,
        bundle,
        what,
        isMounted: options.installed?.delivery === 'mount',
        limitSeconds: (restores ? RESTORE_SECONDS : NO_OP_SECONDS) * trial.timeFactor * trial.jobs,
      });
      const end = stop === 'clean' ? await machine.powerOff() : await machine.kill();
      assert.equal(end, stop === 'clean' ? 'off' : 'killed');
      return left;
    });
    assert.deepEqual(after, last.get(restores) ?? after, `${what} left more than a boot of its kind before it`);
    last.set(restores, after);
  }
  const shortest = Math.min(...trial.boots.flatMap(({ what, secondsUnitToReady }) => (noOps.includes(what) && secondsUnitToReady) || []));
  assert.ok(
    shortest <= NO_OP_SECONDS * trial.timeFactor,
    `the shortest of ${noOps.length} boots with nothing to do took ${shortest} s; load of this machine: ${loadavg()[0]}`,
  );
  assert.deepEqual(await operatorFiles(root), owned, 'a file of the Machine Config Operator was changed');
}

async function firstBoot(trial: Trial, root: MachineRoot, devices: readonly string[]): Promise<void> {
  await withMachine(trial, { root, devices }, async (machine) => {
    const memory = watchMemory(machine, INSTALLED_UNIT);
    await pivot(machine);
    const times = (await unitTimes(root.journal)).get(INSTALLED_UNIT);
    const seconds = ((times?.startedMs ?? Number.NaN) - (times?.startingMs ?? 0)) / 1000;
    const timeline = await readTimeline(root, INSTALLED_UNIT, INSTALLED_UNITS);
    trial.boots.push({ ...(await bootRecord('first boot and pivot', { seconds }, memory)), timeline });
    const order = ['crio-wipe.service', INSTALLED_UNIT, 'machine-config-daemon-pull.service', 'machine-config-daemon-firstboot.service'];
    assert.deepEqual(
      await outOfOrder(
        root.journal,
        order.slice(1).map((unit, index) => [order[index] ?? '', unit] as const),
      ),
      [],
    );
    const tries = (await messagesOf(root.journal, 'machine-config-daemon-pull.service')).filter((line) =>
      /^(Trying to pull|Error)/.test(line),
    );
    assert.ok(tries.length <= 1, `the pull did not succeed at its first try: ${tries.join(' | ')}`);
  });
}

interface LaterBoot {
  readonly machine: Machine;
  readonly bundle: Bundle;
  readonly what: string;
  /** Longest time that our unit may take. */
  readonly limitSeconds: number;
  /** Engines see a store that is mounted. */
  readonly isMounted: boolean;
}

async function laterBoot(trial: Trial, { machine, bundle, what, limitSeconds, isMounted }: LaterBoot): Promise<Footprint> {
  const memory = watchMemory(machine, INSTALLED_UNIT);
  await up(machine);
  const unit = await unitFacts(machine, INSTALLED_UNIT);
  trial.boots.push(await bootRecord(what, unit, memory));
  assert.deepEqual([unit.activeState, unit.exitCode], ['active', 0]);
  assert.ok(
    unit.seconds <= limitSeconds,
    `the unit took ${unit.seconds} s, not at most ${limitSeconds} s; load of this machine: ${loadavg()[0]}`,
  );
  const order = ['crio-wipe.service', INSTALLED_UNIT, 'nodeip-configuration.service', 'crio.service', 'kubelet.service'];
  assert.deepEqual(
    await outOfOrder(
      machine.root.journal,
      order.slice(1).map((unit, index) => [order[index] ?? '', unit] as const),
    ),
    [],
  );
  await assertContainersRan(machine, bundle);
  await assertNoRetries(machine);
  await assertReadOnlySystem(machine);
  if (isMounted) await assertToldOnce(machine);
  const status = await statusOf(machine);
  assert.equal(status.readiness, 'ready', status.reason);
  return await footprint(machine);
}

async function bootRecord(what: string, { seconds }: { readonly seconds: number }, memory: MemoryWatch): Promise<BootRecord> {
  const peakMemoryBytes = await memory.peakBytes();
  return { what, secondsUnitToReady: seconds, ...(peakMemoryBytes !== undefined && { peakMemoryBytes }) };
}

async function operatorFiles(root: MachineRoot): Promise<readonly string[]> {
  return await Promise.all(OPERATOR_FILES.map(async (path) => await readFile(join(root.path, path), 'utf8')));
}
