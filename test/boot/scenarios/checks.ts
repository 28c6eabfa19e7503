import assert from 'node:assert/strict';
import type { Bundle } from '../factory.ts';
import type { Machine } from '../machine.ts';
import { failedUnits } from '../unit.ts';

/** Time for all units of a boot to start, in milliseconds. */
export const UP_LIMIT_MS = 180_000;

/** Waits until everything has started, and nothing has failed. */
export async function up(machine: Machine): Promise<void> {
  const word = await machine.settled(UP_LIMIT_MS);
  const failed = word === 'running' ? [] : await failedUnits(machine);
  assert.deepEqual([word, failed], ['running', []]);
}

/** Waits until the first boot of an installed system has ended as it should. */
export async function pivot(machine: Machine): Promise<void> {
  assert.equal(await machine.settled(UP_LIMIT_MS), 'reboot', 'the first boot did not end with the reboot of the pivot');
}

/** Every image of the installed stage has started a container, for which nothing but the node's own means or those of its neighbours were there. */
export async function assertContainersRan(machine: Machine, { set }: Bundle): Promise<void> {
  assert.equal(await machine.output(['cat', '/run/nodeip-ran']), 'release');
  const lines = (await machine.output(['cat', '/run/kubelet-ran'])).trim().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split(' ')[0]),
    set.installed.map(({ reference }) => reference),
    'the kubelet started another set of images',
  );
}

/** No container had to be started again until its image was there. */
export async function assertNoRetries(machine: Machine): Promise<void> {
  assert.equal((await machine.run(['cat', '/run/retries'])).stdout, '', 'containers were started again');
}

/** The machine is laid out as RHCOS is, so that what was seen in it was seen on a read-only /usr: the executable got to /var, through /usr/local. */
export async function assertReadOnlySystem(machine: Machine): Promise<void> {
  const touched = await machine.run(['touch', '/usr/bin/new']);
  assert.match(touched.stderr, /Read-only file system/);
  const executable = await machine.output(['readlink', '-f', '/usr/local/bin/prestage-agent']);
  assert.equal(executable.trim(), '/var/usrlocal/bin/prestage-agent');
}
