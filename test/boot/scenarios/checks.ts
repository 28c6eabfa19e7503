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

/**
 * CRI-O learns of a store by its drop-in alone: a storage.conf that the environment names gives it the store a second time, and it lists each image
 * twice. Units that start podman by themselves have nothing but the environment. Source: systemctl(1), show.
 */
export async function assertToldOnce(machine: Machine): Promise<void> {
  const environment = async (unit: string) => await machine.output(['systemctl', 'show', unit, '--property=Environment', '--value']);
  for (const unit of ['crio.service', 'crio-wipe.service', 'kubelet.service'])
    assert.doesNotMatch(await environment(unit), /CONTAINERS_STORAGE_CONF/);
  assert.match(await environment('nodeip-configuration.service'), /CONTAINERS_STORAGE_CONF=\/run\/prestage-agent\/storage\.conf/);
}

/** The machine is laid out as RHCOS is, so that what was seen in it was seen on a read-only /usr: the executable got to /var, through /usr/local. */
export async function assertReadOnlySystem(machine: Machine): Promise<void> {
  const touched = await machine.run(['touch', '/usr/bin/new']);
  assert.match(touched.stderr, /Read-only file system/);
  const executable = await machine.output(['readlink', '-f', '/usr/local/bin/prestage-agent']);
  assert.equal(executable.trim(), '/var/usrlocal/bin/prestage-agent');
}
