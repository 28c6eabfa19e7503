import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { waitFor } from '../../support/agent.ts';
import { type ClusterNode, openCluster } from '../../support/cluster.ts';
import { attachDisks } from '../disk.ts';
import type { Bundle } from '../factory.ts';
import { installedRoot } from '../installed.ts';
import type { Machine } from '../machine.ts';
import type { MachineRoot } from '../machine-root.ts';
import { type Scenario, type Trial, withMachine } from '../trial.ts';
import { statusOf, unitFacts } from '../unit.ts';
import { assertContainersRan, assertNoRetries, pivot, UP_LIMIT_MS, up } from './checks.ts';
import { nodeBase } from './node-base.ts';

const PORT = 305;
const INSTALLED_UNIT = 'prestage-agent-installed.service';

/** A node with what it boots from. */
interface Member {
  readonly node: ClusterNode;
  readonly root: MachineRoot;
  readonly devices: readonly string[];
}

/**
 * Three installed nodes on one bridge that leads nowhere else. The first has the data partition and serves; the others have the files of `ignition
 * clients` and nothing of ours besides. All start at once, and the pivot takes the server away from the others while they pull or before they
 * can. Later it is down while another node needs images that it does not have yet.
 */
export function cluster(name: string): Scenario {
  return {
    name,
    run: async (trial) => {
      const bundle = await trial.factory.bundle('registry');
      await using disks = await attachDisks([await trial.factory.disk(trial.work, 'data.img', bundle)]);
      const devices = disks.all.flatMap(({ nodes }) => nodes);
      await using network = await openCluster(3);
      await using roots = new AsyncDisposableStack();
      const overrides = await overridesOf(trial, bundle, network.nodes[0]?.address ?? '');
      const members: Member[] = [];
      for (const [index, node] of network.nodes.entries()) {
        const config = await configOf(trial, { bundle, node, override: index === 0 ? overrides.serving : overrides.pulling });
        const root = roots.use(await installedRoot(trial.work, `${node.address}.img`, config));
        members.push({ node, root, devices: index === 0 ? devices : [] });
      }
      const [server, one, two] = members;
      assert.ok(server !== undefined && one !== undefined && two !== undefined);
      await allStart(trial, server, [one, two]);
      await onePulls(trial, bundle, { server, one });
      await serverComesLate(trial, bundle, { server, two });
    },
  };
}

/** Arguments of `ignition` for the node that serves, and for those that pull from it. */
async function overridesOf(
  { factory, work }: Trial,
  { directory }: Bundle,
  address: string,
): Promise<{ readonly serving: readonly string[]; readonly pulling: readonly string[] }> {
  const tls = join(work, 'tls');
  await factory.agent('certificates', '--directory', tls, '--address', address);
  const own = ['--certificate', join(tls, `${address}.crt`), '--key', join(tls, `${address}.key`)];
  return {
    serving: ['installed', '--bundle', directory, '--policy', 'closed', '--serve', 'cluster', '--address', address, ...own],
    pulling: ['clients', '--bundle', directory, '--mirror', `${address}:${PORT}`, '--ca', join(tls, 'ca.crt')],
  };
}

interface NodeConfig {
  readonly bundle: Bundle;
  readonly node: ClusterNode;
  readonly override: readonly string[];
}

async function configOf({ factory, work }: Trial, { bundle, node, override }: NodeConfig): Promise<string> {
  const base = await nodeBase(bundle, { address: node.address });
  const file = join(work, `${node.address}.ign`);
  await writeFile(file, base);
  return await factory.agent('ignition', ...override, '--merge', file);
}

/** The first boots, which end with the pivot. The others need the server for theirs, and the server does not wait for them. */
async function allStart(trial: Trial, server: Member, clients: readonly Member[]): Promise<void> {
  const pivots = clients.map((client) => ({ client, ...Promise.withResolvers<void>() }));
  const pulled = Promise.all(pivots.map(({ promise }) => promise));
  await atOnce(trial, [
    ...pivots.map(({ client, resolve }) => async (part: Trial) => {
      await onNode(part, client, pivot);
      resolve();
    }),
    async (part) => {
      await onNode(part, server, pivot);
      await onNode(part, server, async (machine) => {
        await serverIsUp(part, machine, 'node 0 after the pivot');
        await Promise.race([pulled, machine.ended]);
        assert.equal(await machine.powerOff(), 'off');
      });
    },
  ]);
}

/** A node that starts while the server is there pulls all that it needs at the first try. */
async function onePulls(trial: Trial, bundle: Bundle, { server, one }: { readonly server: Member; readonly one: Member }): Promise<void> {
  await onNode(trial, server, async (serving) => {
    await serverIsUp(trial, serving, 'node 0, started again');
    await onNode(trial, one, async (machine) => {
      await up(machine);
      await assertContainersRan(machine, bundle);
      await assertNoRetries(machine);
      await assertNothingOfOurs(machine);
      assert.equal(await machine.powerOff(), 'off');
    });
    assert.equal(await serving.powerOff(), 'off');
  });
}

/** A node that starts while the server is down tries until it is back. */
async function serverComesLate(
  trial: Trial,
  bundle: Bundle,
  { server, two }: { readonly server: Member; readonly two: Member },
): Promise<void> {
  await onNode(trial, two, async (machine) => {
    const hasFailed = async () => ((await machine.run(['test', '-e', '/run/retries'])).exitCode === 0 ? true : undefined);
    await waitFor('a pull that fails', hasFailed, UP_LIMIT_MS);
    await onNode(trial, server, async (serving) => {
      await serverIsUp(trial, serving, 'node 0, started while node 2 waits');
      await assertContainersRan(serving, bundle);
      await up(machine);
      await assertContainersRan(machine, bundle);
      await assertNothingOfOurs(machine);
      assert.equal(await serving.powerOff(), 'off');
    });
    assert.equal(await machine.powerOff(), 'off');
  });
}

async function serverIsUp(trial: Trial, machine: Machine, what: string): Promise<void> {
  await up(machine);
  const { seconds } = await unitFacts(machine, INSTALLED_UNIT);
  trial.boots.push({ what, secondsUnitToReady: seconds });
  const { readiness, reason } = await statusOf(machine);
  assert.equal(readiness, 'ready', reason);
}

/** Nothing that runs came onto a node that pulls. */
async function assertNothingOfOurs(machine: Machine): Promise<void> {
  const places = '/usr/local/bin/prestage* /etc/systemd/system/prestage* /etc/prestage-agent /run/prestage-agent /var/lib/prestage-agent';
  assert.equal((await machine.run(['sh', '-c', `ls -d ${places} 2>/dev/null`])).stdout, '');
}

/** Boots a node without an address, which its network gives it later. */
async function onNode(trial: Trial, { node, root, devices }: Member, act: (machine: Machine) => Promise<void>): Promise<void> {
  await output(execOnLinux, 'ip', ['-n', node.network, 'address', 'flush', 'dev', 'eth0']);
  await withMachine(trial, { root, devices, network: node.network }, act);
}

/** Where one of several fails, the machines of the others are taken down before that is told. */
async function atOnce(trial: Trial, acts: readonly ((part: Trial) => Promise<void>)[]): Promise<void> {
  const failed = new AbortController();
  const part = { ...trial, signal: AbortSignal.any([trial.signal, failed.signal]) };
  await Promise.allSettled(
    acts.map(async (act) => {
      await act(part).catch((error: unknown) => failed.abort(error));
    }),
  );
  failed.signal.throwIfAborted();
}
