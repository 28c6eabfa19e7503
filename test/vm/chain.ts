import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { STORE_PATH } from '../../agent/model/places.ts';
import type { Stage } from '../../agent/model/stage.ts';
import { DISCOVERY_UNIT, discoveryRoot } from '../boot/discovery.ts';
import { attachDisk } from '../boot/disk.ts';
import type { Bundle } from '../boot/factory.ts';
import { type Footprint, footprint } from '../boot/footprint.ts';
import { applyIgnition } from '../boot/ignition.ts';
import { diskRoot } from '../boot/machine-root.ts';
import { hostIgnition } from '../boot/scenarios/chain.ts';
import { failedUnits, statusOf, unitFacts } from '../boot/unit.ts';
import type { VirtualMachine } from './machine.ts';
import { type VmTrial, withVm } from './trial.ts';

/** The node's disk after its whole life, and what its boots took. */
export interface LivedDisk {
  readonly bundle: Bundle;
  readonly image: string;
}

/** Time for all units of a boot to start: an emulated processor is some ten times slower than a real one. */
export const UP_LIMIT_MS = 300_000;
export const INSTALLED_UNIT = 'prestage-agent-installed.service';
/** The words with which an installed disk, the first after the root's, is started. */
export const INSTALLED_WORDS = ['vm.upper=/dev/vdb4'];
const HOST_IGNITION = '/etc/host.ign';
const DISK = '/dev/vdb';
const SETTINGS = {
  discovery: { delivery: 'mount', placement: 'ram', trust: 'verity' },
  installed: { delivery: 'mount', placement: 'partition', trust: 'verity' },
} as const;

/** Factory, discovery, installation, first boot with the pivot, and two boots more; the store image is believed by dm-verity in all of them. */
export async function liveWholeLife(trial: VmTrial): Promise<LivedDisk> {
  const bundle = await trial.factory.bundle('store');
  const image = await trial.factory.disk(trial.work, 'disk.img', bundle);
  await discover(trial, bundle, image);
  await applyHostIgnition(trial, image);
  await told(trial, 'first boot and pivot', async () => {
    await withVm(trial, { words: INSTALLED_WORDS, disks: [image] }, async (machine) => {
      assert.equal(await machine.settled(UP_LIMIT_MS), 'reboot', 'the first boot did not end with the reboot of the pivot');
    });
  });
  const first = await laterBoot(trial, 'boot 2', { bundle, image });
  assert.deepEqual(await laterBoot(trial, 'boot 3', { bundle, image }), first, 'boot 3 left more than the boot before it');
  return { bundle, image };
}

/** The live system: udev names the partition, our unit opens the store, the assisted agent runs, and the disk is free for the installer. */
async function discover(trial: VmTrial, bundle: Bundle, image: string): Promise<void> {
  const live = join(trial.work, 'live.tar');
  const host = await hostIgnition(trial, { installed: SETTINGS.installed, mirrors: true }, bundle);
  {
    await using root = await discoveryRoot(trial, { bundle, policy: 'closed', settings: SETTINGS.discovery, lower: trial.lower });
    await writeFile(join(root.path, HOST_IGNITION), host);
    await output(execOnLinux, 'tar', ['-C', join(root.path, '..'), '-cf', live, 'rw/upper', 'var']);
  }
  await told(trial, 'discovery', async () => {
    await withVm(trial, { words: ['vm.upper=ram', 'vm.live=/dev/vdc'], disks: [image, live] }, async (machine) => {
      await up(machine);
      assert.equal(await machine.output(['ls', '/sys/class/net']), 'lo');
      assert.equal(await machine.output(['cat', '/run/agent-ran']), 'agent');
      assert.equal((await machine.run(['cat', '/run/agent-pulls'])).stdout, '', 'the image of the assisted agent was pulled');
      assert.match(await machine.output(['readlink', '-f', '/dev/disk/by-partlabel/data']), /^\/dev\/vdb\d+$/);
      await assertOrder(machine, DISCOVERY_UNIT, ['agent.service']);
      await assertVerity(machine, 'discovery');
      assert.equal(await holders(machine), '', 'something holds the disk that is to be installed to');
      await noteUnit(trial, machine, DISCOVERY_UNIT);
      await machine.output([
        '/usr/local/bin/coreos-installer',
        'install',
        '--ignition-file',
        HOST_IGNITION,
        '--save-partlabel',
        'data',
        DISK,
      ]);
      assert.equal(await machine.powerOff(), 'off');
    });
  });
}

/** What the initial RAM disk of the written disk does at its first boot. */
async function applyHostIgnition(trial: VmTrial, image: string): Promise<void> {
  await using disk = await attachDisk(image);
  const partition = disk.partition('root');
  assert.ok(partition !== undefined, 'the installer left no root partition');
  assert.ok(disk.partition('data') !== undefined, 'the installer did not keep the data partition');
  await using root = await diskRoot(trial.work, partition, trial.lower);
  await applyIgnition(await readFile(join(root.path, '../sysroot/ignition/config.ign'), 'utf8'), root.path, trial.work);
}

async function laterBoot(trial: VmTrial, what: string, { bundle, image }: LivedDisk): Promise<Footprint> {
  return await told(trial, what, async () => {
    return await withVm(trial, { words: INSTALLED_WORDS, disks: [image] }, async (machine) => {
      await up(machine);
      await assertOrder(machine, INSTALLED_UNIT, ['nodeip-configuration.service', 'crio.service', 'kubelet.service']);
      await assertVerity(machine, 'installed');
      const ran = (await machine.output(['cat', '/run/kubelet-ran'])).split('\n');
      assert.deepEqual(
        ran.map((line) => line.split(' ')[0]),
        bundle.set.installed.map(({ reference }) => reference),
      );
      await noteUnit(trial, machine, INSTALLED_UNIT);
      const left = await footprint(machine);
      assert.equal(await machine.powerOff(), 'off');
      return left;
    });
  });
}

/** The store is what the kernel checks as it is read, by its own word. */
async function assertVerity(machine: VirtualMachine, stage: Stage): Promise<void> {
  const status = await statusOf(machine);
  assert.equal(status.readiness, 'ready', status.reason);
  assert.deepEqual([status.run?.store?.trust, status.run?.store?.verified], ['verity', 'kernel']);
  const mounts = await machine.output(['cat', '/proc/mounts']);
  const device = `/dev/mapper/prestage-${stage}`;
  assert.match(mounts, new RegExp(`^${device} ${STORE_PATH} squashfs ro,`, 'm'));
  assert.match(await machine.output(['veritysetup', 'status', `prestage-${stage}`]), /status:\s+verified/);
}

/** Waits until everything has started, and nothing has failed. */
async function up(machine: VirtualMachine): Promise<void> {
  const word = await machine.settled(UP_LIMIT_MS);
  const failed = word === 'running' ? [] : await failedUnits(machine);
  assert.deepEqual([word, failed], ['running', []]);
}

/** That units began to start when one had started. Source: org.freedesktop.systemd1(5). */
async function assertOrder(machine: VirtualMachine, first: string, others: readonly string[]): Promise<void> {
  const at = async (unit: string, property: string): Promise<number> =>
    Number(await machine.output(['systemctl', 'show', '--value', `--property=${property}`, unit]));
  const started = await at(first, 'ActiveEnterTimestampMonotonic');
  for (const unit of others) {
    const began = await at(unit, 'InactiveExitTimestampMonotonic');
    assert.ok(started > 0 && began >= started, `${first} had started at ${started} µs, ${unit} began at ${began} µs`);
  }
}

/** Mounts, devices and loop devices on the disk, a line each. */
async function holders(machine: VirtualMachine): Promise<string> {
  const script = `grep '^${DISK}' /proc/mounts; ls -d /sys/class/block/vdb*/holders/* 2>/dev/null; losetup --list --noheadings --output BACK-FILE | grep '^${DISK}'; :`;
  return await machine.output(['sh', '-c', script]);
}

async function noteUnit(trial: VmTrial, machine: VirtualMachine, unit: string): Promise<void> {
  const { activeState, exitCode, seconds } = await unitFacts(machine, unit);
  assert.deepEqual([activeState, exitCode], ['active', 0]);
  trial.notes.push(`${unit}: ${seconds.toFixed(1)} s from start to ready, emulated`);
}

/** Notes how long something took. */
export async function told<T>(trial: VmTrial, what: string, act: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const result = await act();
  trial.notes.push(`${what}: ${((performance.now() - started) / 1000).toFixed(0)} s`);
  return result;
}
