import { type MountFixture, makeDataDisk, makeMountFixture, mountNodesUnavailable } from '../mount-node.ts';
import { makeRegistryFixture } from '../registry-node.ts';
import type { NodeSandbox } from '../sandbox.ts';
import { openNodePlace } from './node-place.ts';
import type { CrashPlace, CrashScenario } from './points.ts';
import { oursOn } from './release.ts';

/** Which steps such runs pass, and that each can be killed, is tried in run-mount-crash and run-registry-crash. */
const STEPS: CrashScenario['steps'] = [];

interface Running {
  readonly stage: 'discovery' | 'installed';
  readonly more: readonly string[];
}

async function openRun({ executable, images }: MountFixture, { stage, more }: Running): Promise<CrashPlace> {
  return await openNodePlace(async (node) => {
    const etc = await node.etcTree();
    return {
      args: ['run', '--stage', stage, '--policy', 'closed', '--device-wait', '5', ...more],
      end: async () => [await oursOn(node, etc), await pulledOn(node, images.list.reference), await readinessOn(node, executable)],
    };
  });
}

/** Whether a pull is answered: by the mirror or the registry. */
async function pulledOn(node: NodeSandbox, reference: string): Promise<readonly unknown[]> {
  const { exitCode, stderr } = await node.exec('podman', ['pull', '--quiet', reference]);
  return exitCode === 0 ? [0] : [exitCode, stderr];
}

async function readinessOn(node: NodeSandbox, executable: string): Promise<string> {
  return JSON.parse((await node.exec(executable, ['status', '--output', 'json'])).stdout).status.readiness;
}

const discovery: CrashScenario = {
  name: 'run that copies a store from the partition to memory',
  steps: STEPS,
  unavailable: mountNodesUnavailable,
  prepare: async () => {
    const stack = new AsyncDisposableStack();
    const fixture = stack.use(await makeMountFixture());
    const disk = stack.use(await makeDataDisk(fixture));
    return {
      open: async () => await openRun(fixture, { stage: 'discovery', more: ['--label', disk.label] }),
      [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
    };
  },
};

const disk: CrashScenario = {
  name: 'run that copies a store to the disk',
  steps: STEPS,
  unavailable: mountNodesUnavailable,
  prepare: async () => {
    const fixture = await makeMountFixture();
    const more = ['--bundle', fixture.bundle, '--placement', 'disk', '--trust', 'hash'];
    return {
      open: async () => await openRun(fixture, { stage: 'discovery', more }),
      [Symbol.asyncDispose]: async () => await fixture[Symbol.asyncDispose](),
    };
  },
};

const registry: CrashScenario = {
  name: 'run that serves a tree which it makes of a layout',
  steps: STEPS,
  unavailable: mountNodesUnavailable,
  prepare: async () => {
    const fixture = await makeRegistryFixture();
    const bundle = await fixture.bundleOf(['oci']);
    const more = ['--bundle', bundle, '--delivery', 'registry', '--registry-image', fixture.images.registry.reference];
    return {
      open: async () => await openRun(fixture, { stage: 'installed', more }),
      [Symbol.asyncDispose]: async () => await fixture[Symbol.asyncDispose](),
    };
  },
};

export const runScenarios: readonly CrashScenario[] = [discovery, disk, registry];
