import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { STORE_RECORD } from '../../../agent/model/places.ts';
import { unsealRecord } from '../../../agent/model/seal.ts';
import type { StatusReport } from '../../../agent/status/assess.ts';
import { type makeMountFixture, mountNodesUnavailable } from '../mount-node.ts';
import type { NodeSandbox } from '../sandbox.ts';
import { flipByte } from '../store-bundle.ts';
import { openNodePlace } from './node-place.ts';
import { type CrashScenario, isKilled } from './points.ts';
import { oursOn, preparedNodes, setUp } from './release.ts';

const MAIN = '/var/lib/containers/storage';
const COPIES = '/var/lib/prestage-agent/images';

/** A copy on the disk that lost a bit while it is mounted, with an image, a container and a leftover layer that stand on it. */
const damaged: CrashScenario = {
  name: 'check-store of a damaged copy',
  steps: [
    'begin-check',
    'drop-damaged-copy',
    'take-lock',
    'record-damage',
    'unmount-store',
    'forget-store',
    'heal-container',
    'heal-image',
    'heal-layer',
  ],
  // What is damaged is said by the exit code of the payload; what was healed is not said again.
  exitCodes: [6, 0],
  unavailable: mountNodesUnavailable,
  prepare: async () =>
    await preparedNodes(
      (fixture) => async () =>
        await openNodePlace(async (node) => {
          const etc = await node.etcTree();
          await setUp(node, fixture);
          await standOnStore(node, fixture.images);
          const copies = (await readdir(node.path(COPIES))).filter((name) => name.endsWith('.squashfs'));
          for (const name of copies) await flipByte(node.path(join(COPIES, name)), 1);
          return {
            args: ['check-store'],
            end: async () => [await oursOn(node, etc), await storageOf(node), await verdictOf(node, fixture.executable)],
          };
        }),
    ),
};

/** An image pulled on top, a container, and a layer whose image record a load that was ended has not written. */
async function standOnStore(node: NodeSandbox, images: Awaited<ReturnType<typeof makeMountFixture>>['images']): Promise<void> {
  await node.output('podman', ['pull', images.tag.reference]);
  await node.output('podman', ['create', '--name', 'used', '--network=host', '--pull=never', images.digest.reference, 'sh']);
  await node.output('podman', ['create', '--name', 'gone', '--network=host', '--pull=never', images.list.reference, 'sh']);
  // Of the second container only the layer stays.
  const path = node.path(join(MAIN, 'overlay-containers/containers.json'));
  const records: readonly { readonly id: string; readonly names?: readonly string[] }[] = JSON.parse(await readFile(path, 'utf8'));
  await writeFile(path, JSON.stringify(records.filter(({ names }) => names?.[0] !== 'gone')));
  for (const { id } of records.filter(({ names }) => names?.[0] === 'gone'))
    await rm(node.path(join(MAIN, 'overlay-containers', id)), { recursive: true });
  await node.output('rm', ['-rf', join(MAIN, 'libpod')]);
}

async function storageOf(node: NodeSandbox): Promise<unknown> {
  const records = async (name: string): Promise<unknown> => JSON.parse(await readFile(node.path(join(MAIN, name)), 'utf8'));
  return [
    await node.output('podman', ['images', '--quiet']),
    await node.output('podman', ['ps', '--all', '--external', '--quiet']),
    await records('overlay-images/images.json'),
    await records('overlay-layers/layers.json'),
  ];
}

async function verdictOf(node: NodeSandbox, executable: string): Promise<unknown> {
  const report: StatusReport = JSON.parse((await node.exec(executable, ['status', '--output', 'json'])).stdout);
  return [report.status.readiness, report.status.exitCode];
}

async function isVerified(node: NodeSandbox): Promise<unknown> {
  return unsealRecord(await readFile(node.path(STORE_RECORD), 'utf8'))?.verified;
}

const intact: CrashScenario = {
  name: 'check-store of an intact store',
  steps: ['begin-check', 'record-check'],
  unavailable: mountNodesUnavailable,
  prepare: async () =>
    await preparedNodes(
      (fixture) => async () =>
        await openNodePlace(async (node) => {
          const etc = await node.etcTree();
          // Killed before it starts the check by itself.
          const how = ['--stage', 'discovery', '--placement', 'partition', '--trust', 'background', '--policy', 'closed'];
          const killed = await node.exec(fixture.executable, ['run', '--bundle', fixture.bundle, ...how], {
            env: { PRESTAGE_CRASH_AT: 'before:start-check' },
          });
          if (!isKilled(killed)) throw new Error(`the run was not killed: ${killed.stderr}`);
          return { args: ['check-store'], end: async () => [await oursOn(node, etc), await isVerified(node)] };
        }),
    ),
};

export const checkScenarios: readonly CrashScenario[] = [damaged, intact];
