import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ClusterNode, type ClusterServer, openCluster, startServer } from '../../support/cluster.ts';
import { releasePolicy } from '../../support/policies.ts';
import { type AttachedDisk, attachDisks } from '../disk.ts';
import type { Bundle } from '../factory.ts';
import { installedRoot } from '../installed.ts';
import { messagesOf } from '../journal.ts';
import { type Scenario, type Trial, withMachine } from '../trial.ts';
import { statusOf, unitFacts } from '../unit.ts';
import { assertContainersRan, assertNoRetries, pivot, up } from './checks.ts';
import { nodeBase } from './node-base.ts';

const SOURCE = 'quay.io';
const INSTALLED_UNIT = 'prestage-agent-installed.service';

/** What a delivery comes to on a node whose cluster demands signatures that its bundle lacks. */
interface Expected {
  readonly delivery: 'mount' | 'extract';
  readonly readiness: 'ready' | 'degraded';
  readonly exitCode: number;
}

/**
 * Installed nodes under the policy of a release, with a bundle that has no signatures, and a source registry in reach that has them. The bundle must
 * not keep them from it: the operator's image comes from the source at the first try. With a mounted store they have no mirror of those images, which
 * `status` says; loaded images need none.
 */
export function signedSource(name: string): Scenario {
  return {
    name,
    run: async (trial) => {
      const bundle = await trial.factory.bundle('store,oci');
      const tls = join(trial.work, 'tls');
      await trial.factory.agent('certificates', '--directory', tls, '--address', SOURCE);
      await using network = await openCluster(2);
      const [node, far] = network.nodes;
      assert.ok(node !== undefined && far !== undefined);
      const [certificate, key] = [join(tls, `${SOURCE}.crt`), join(tls, `${SOURCE}.key`)];
      await using source = await startServer({ node: far, port: 443, tree: await trial.factory.signedRegistry(), certificate, key });
      await using disks = await attachDisks([await trial.factory.disk(trial.work, 'data.img', bundle)]);
      const files = {
        '/etc/hosts': `${far.address} ${SOURCE}\n`,
        [`/etc/containers/certs.d/${SOURCE}/ca.crt`]: await readFile(join(tls, 'ca.crt'), 'utf8'),
      };
      const parts = { bundle, node, source, disks: disks.all, files };
      await live(trial, { delivery: 'mount', readiness: 'degraded', exitCode: 13 }, parts);
      await live(trial, { delivery: 'extract', readiness: 'ready', exitCode: 0 }, parts);
    },
  };
}

interface Parts {
  readonly bundle: Bundle;
  readonly node: ClusterNode;
  readonly source: ClusterServer;
  readonly disks: readonly AttachedDisk[];
  readonly files: Readonly<Record<string, string>>;
}

/** The first boot with the pivot, and one more. */
async function live(trial: Trial, { delivery, readiness, exitCode }: Expected, parts: Parts): Promise<void> {
  const { bundle, node, source, files } = parts;
  const base = await nodeBase(bundle, { policy: releasePolicy(trial.factory.signingKey), settings: { delivery }, files });
  const config = await trial.factory.ignition('installed', { bundle, base, policy: 'closed', work: trial.work });
  await using root = await installedRoot(trial.work, `${delivery}.img`, config);
  const options = { root, devices: parts.disks.flatMap(({ nodes }) => nodes), network: node.network };
  const before = source.requests().length;
  await withMachine(trial, options, pivot);
  const tries = (await messagesOf(root.journal, 'machine-config-daemon-pull.service')).filter((line) =>
    /^(Trying to pull|Error)/.test(line),
  );
  assert.equal(tries.length, 1, `the pull did not succeed at its first try: ${tries.join(' | ')}`);
  const { digest } = bundle.set.images.whiteouts;
  const asked = `GET /v2/openshift-release-dev/ocp-v4.0-art-dev/manifests/${digest} 200`;
  assert.ok(source.requests().slice(before).includes(asked), `the source was not asked: ${source.requests().slice(before).join('\n')}`);
  await withMachine(trial, options, async (machine) => {
    await up(machine);
    const { seconds } = await unitFacts(machine, INSTALLED_UNIT);
    trial.boots.push({ what: `boot after the pivot, ${delivery}`, secondsUnitToReady: seconds });
    await assertContainersRan(machine, bundle);
    await assertNoRetries(machine);
    const status = await statusOf(machine);
    assert.deepEqual([status.readiness, status.exitCode], [readiness, exitCode], status.reason);
    if (readiness === 'degraded') {
      assert.match(
        status.reason,
        /^engines would refuse images of 2 repositories from our mirror, .*the policy requires a sigstore signature/,
      );
      assert.match(status.nextStep, /pull --signatures require/);
    }
    assert.equal(await machine.powerOff(), 'off');
  });
}
