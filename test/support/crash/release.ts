import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { STORAGE_CONF } from '../../../agent/model/places.ts';
import { runStateOf } from '../../../agent/model/run-state.ts';
import { unsealRecord } from '../../../agent/model/seal.ts';
import type { Stage } from '../../../agent/model/stage.ts';
import { DURABLE_STATE } from '../../../agent/state/run-record.ts';
import { checkAtWork, isAlive, makeLongBundle } from '../long-store.ts';
import { type MountFixture, makeMountFixture, mountNodesUnavailable } from '../mount-node.ts';
import type { NodeSandbox } from '../sandbox.ts';
import { mountsBelow, openNodePlace } from './node-place.ts';
import type { CrashScenario, PreparedScenario } from './points.ts';

/** A fixture for a scenario, and places in which the agent has been given some commands before. */
export async function preparedNodes(open: (fixture: MountFixture) => PreparedScenario['open']): Promise<PreparedScenario> {
  const fixture = await makeMountFixture();
  return { open: open(fixture), [Symbol.asyncDispose]: async () => await fixture[Symbol.asyncDispose]() };
}

/** Whose steps a release takes back: a store that was copied to the disk, its mirror, and files of the engines. */
export async function setUp(node: NodeSandbox, { executable, bundle }: MountFixture, stage: Stage = 'discovery'): Promise<void> {
  const how = ['--stage', stage, '--placement', 'disk', '--trust', 'hash', '--policy', 'closed'];
  await node.output(executable, ['run', '--bundle', bundle, ...how], { timeoutMs: 120_000 });
}

/** What is the agent's on a node: its mounts and files, and what it changed in /etc. */
export async function oursOn(node: NodeSandbox, etc: Readonly<Record<string, string>>): Promise<unknown> {
  const names = async (path: string): Promise<readonly string[]> => {
    const found: readonly string[] = await readdir(node.path(path)).catch(() => []);
    return found.toSorted();
  };
  const now = await node.etcTree();
  const isOther = (path: string): boolean => now[path] !== etc[path] && !path.startsWith('/cni/');
  return {
    etc: [...new Set([...Object.keys(etc), ...Object.keys(now)])].filter(isOther).toSorted(),
    mounts: (await mountsBelow(node, '/run/prestage-agent'))
      .concat(await mountsBelow(node, '/var/lib/prestage-agent'))
      .map((target) => target.replace(/^(\/run\/prestage-agent\/registry\/storage\/).*/, '$1…')),
    memory: (await names('/run/prestage-agent')).filter((name) => !/^(?:lock|check\.lock|state\.json$)/.test(name)),
    disk: await names('/var/lib/prestage-agent'),
  };
}

/** The state of the last run says that it was undone, and names nothing any more. */
async function recordOn(node: NodeSandbox): Promise<unknown> {
  const state = runStateOf(unsealRecord(await readFile(node.path(DURABLE_STATE), 'utf8')));
  return { isReleased: state?.releasedAt !== undefined, store: state?.store, registry: state?.registry };
}

const release: CrashScenario = {
  name: 'release --keep-images with a container that runs from the store',
  steps: [
    'stop-registry',
    'remove-registry',
    'keep-image',
    'remove-system-file',
    'restore-system-file',
    'remove-setup-record',
    'unmount-store',
    'forget-store',
    'remove-store-copies',
    'remove-mirror',
    'remove-copies',
    'record-release',
  ],
  unavailable: mountNodesUnavailable,
  prepare: async () =>
    await preparedNodes((fixture) => async () => {
      const { reference } = fixture.images.tag;
      return await openNodePlace(async (node) => {
        const etc = await node.etcTree();
        await setUp(node, fixture);
        const detached = ['run', '--detach', '--name', 'web', '--network=host', '--pull=never'];
        await node.output('podman', [...detached, reference, 'sh', '-c', 'while :; do sleep 1; done']);
        return {
          args: ['release', '--keep-images', '--yes'],
          end: async () => [
            await oursOn(node, etc),
            await recordOn(node),
            await node.output('podman', ['images', '--format', '{{.Repository}}:{{.Tag}} {{.Digest}} {{.ReadOnly}}']),
            await node.output('podman', ['exec', 'web', 'cat', '/etc/name']),
          ],
        };
      });
    }),
};

/** Nothing runs: the empty store goes, too. What was started before finds a storage.conf still, as it is on an installed node. */
const wholeRelease: CrashScenario = {
  name: 'release of all',
  steps: ['leave-storage-conf', 'remove-empty-store', 'record-release'],
  unavailable: mountNodesUnavailable,
  prepare: async () =>
    await preparedNodes(
      (fixture) => async () =>
        await openNodePlace(async (node) => {
          const etc = await node.etcTree();
          await setUp(node, fixture, 'installed');
          return {
            args: ['release', '--yes'],
            end: async () => [
              await oursOn(node, etc),
              await recordOn(node),
              await node.output('podman', ['images', '--quiet']),
              await node.output('podman', ['images', '--quiet'], { env: { CONTAINERS_STORAGE_CONF: STORAGE_CONF } }),
            ],
          };
        }),
    ),
};

/** The check goes on for minutes and holds the partition. */
const releaseOfChecked: CrashScenario = {
  name: 'release while a check of the store is at work',
  steps: ['end-check', 'unmount-store', 'forget-store', 'unmount-data'],
  unavailable: mountNodesUnavailable,
  prepare: async () =>
    await preparedNodes((fixture) => async () => {
      const long = join(fixture.work, 'long');
      if (!existsSync(long)) await makeLongBundle(fixture.bundle, long);
      return await openNodePlace(async (node) => {
        const etc = await node.etcTree();
        const how = ['--stage', 'installed', '--placement', 'partition', '--trust', 'background', '--policy', 'closed'];
        await node.output(fixture.executable, ['run', '--bundle', long, ...how], { timeoutMs: 120_000 });
        const check = await checkAtWork(node);
        return {
          args: ['release', '--yes'],
          end: async () => [await oursOn(node, etc), await recordOn(node), await isAlive(node, check)],
        };
      });
    }),
};

export const releaseScenarios: readonly CrashScenario[] = [release, wholeRelease, releaseOfChecked];
