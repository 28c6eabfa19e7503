import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { changingActs } from '../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { runStateOf } from '../../../agent/model/run-state.ts';
import { unsealRecord } from '../../../agent/model/seal.ts';
import { makeSandbox, type Sandbox } from '../agent.ts';
import { copyToDisk, disksUnavailable, makeDisk } from '../disk.ts';
import { assertLoaded, assertNothingLeft } from '../loaded.ts';
import { makeTinyBundle, type TinyBundle } from '../tiny-bundle.ts';
import type { CrashScenario } from './points.ts';

let disks = 0;

/** Archives on the partition of a real disk, and a storage in which one of the images is damaged and the other is missing. */
const extract: CrashScenario = {
  name: 'run that loads archives',
  steps: [...changingActs.run, ...changingActs.extract],
  unavailable: disksUnavailable,
  prepare: async () => {
    const stack = new AsyncDisposableStack();
    const work = await mkdtemp(join(tmpdir(), 'crash-'));
    stack.defer(async () => await rm(work, { recursive: true, force: true }));
    const bundle = await makeTinyBundle(work, 2);
    const label = `crash-${process.pid}-${++disks}`;
    const disk = stack.use(await makeDisk({ directory: work, label, partitionMiB: 320 }));
    await copyToDisk(disk, work, bundle.directory);
    const damaged = await storeWithDamage(join(work, 'storage'), bundle);
    const expected = bundle.images.map((image, index) => (index === 1 ? { ...image, names: [image.reference, bundle.mappedName] } : image));
    return {
      open: async () => {
        const sandbox = await makeSandbox();
        await copyStore(damaged, sandbox.graphroot);
        const args = ['run', '--stage', 'discovery', '--label', label, '--device-wait', '5'];
        return {
          run: async (env, under) => await sandbox.agent(args, env, under),
          end: async () => {
            await assertLoaded(sandbox, expected);
            await assertNothingLeft(sandbox);
            const { outcome, suspect, unsynced, images } = (await stateOf(sandbox)) ?? assert.fail('there is no state');
            return { outcome, suspect, unsynced, faults: images.map(({ error }) => error), readiness: await readinessOf(sandbox) };
          },
          afterKill: async (point) => assert.equal(await readinessOf(sandbox), readinessAfter(point)),
          [Symbol.asyncDispose]: async () => await sandbox[Symbol.asyncDispose](),
        };
      },
      [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
    };
  },
};

/** Loads the bundle, takes one image away and cuts the manifest of the other one short. */
async function storeWithDamage(to: string, bundle: TinyBundle): Promise<string> {
  await using sandbox = await makeSandbox();
  await sandbox.run(['--bundle', bundle.directory]);
  await sandbox.podman('rmi', bundle.images[0]?.reference ?? '');
  const [{ id }] = JSON.parse(await readFile(join(sandbox.graphroot, 'overlay-images/images.json'), 'utf8'));
  await writeFile(join(sandbox.graphroot, 'overlay-images', id, 'manifest'), '{}');
  await execOnLinux('umount', [join(sandbox.graphroot, 'overlay')]);
  // podman's database holds the paths of the first place.
  await rm(join(sandbox.graphroot, 'libpod'), { recursive: true });
  await copyStore(sandbox.graphroot, to);
  return to;
}

/** With owners, times and attributes, and without following links. */
async function copyStore(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await output(execOnLinux, 'cp', ['-a', from, to]);
}

async function stateOf(sandbox: Sandbox) {
  return runStateOf(unsealRecord(await readFile(sandbox.stateFile, 'utf8')));
}

async function readinessOf(sandbox: Sandbox): Promise<string> {
  return JSON.parse((await sandbox.agent(['status', '--output', 'json'])).stdout).status.readiness;
}

function readinessAfter(point: string): string {
  if (['before:take-lock:1', 'after:take-lock:1', 'before:record-start:1'].includes(point)) return 'never-run';
  return point === 'after:record-end:1' ? 'ready' : 'interrupted';
}

export const extractScenarios: readonly CrashScenario[] = [extract];
