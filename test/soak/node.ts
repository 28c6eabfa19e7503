import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Transport, verifyImages } from '../power/verify-node.ts';
import { TOP } from '../support/cache.ts';
import type { MadeImage } from '../support/images.ts';
import { type DataDisk, type MountNode, makeDataDisk, openMountNode } from '../support/mount-node.ts';
import { makeRegistryFixture, type RegistryFixture } from '../support/registry-node.ts';

/** What a boot delivers. */
export interface Delivery {
  readonly name: string;
  readonly args: readonly string[];
  /** Where images are found afterwards. */
  readonly transport: Transport;
}

const deliver = (stage: string, delivery: string, transport: Transport, placement?: string): Delivery => ({
  name: [stage, delivery, ...(placement === undefined ? [] : [placement])].join(' '),
  args: ['--stage', stage, '--delivery', delivery, ...(placement === undefined ? [] : ['--placement', placement])],
  transport,
});

/** All deliveries of the installed stage, and those of discovery. */
export const deliveries = {
  extract: deliver('installed', 'extract', 'containers-storage'),
  partition: deliver('installed', 'mount', 'containers-storage', 'partition'),
  disk: deliver('installed', 'mount', 'containers-storage', 'disk'),
  registry: deliver('installed', 'registry', 'docker'),
  discovery: deliver('discovery', 'extract', 'containers-storage'),
  ram: deliver('discovery', 'mount', 'containers-storage', 'ram'),
} as const;

/** A node that is booted again and again: what it has on its disk, and its data partition. */
export interface SoakNode extends AsyncDisposable {
  readonly work: string;
  /** The directory of its disk. */
  readonly disk: string;
  readonly data: DataDisk;
  readonly images: readonly MadeImage[];
  /** Boots it: CRI-O wipes its storage where the last stop was unclean, before anything else runs. */
  boot(): Promise<MountNode>;
  /** The way of a clean shutdown: CRI-O notes it. */
  stop(node: MountNode): Promise<void>;
  /** Arguments of a run that takes the bundle from the partition. */
  args(delivery: Delivery): readonly string[];
}

/** Source: cri-o, cmd/crio/wipe.go. */
const CRIO = join(TOP, 'test/boot/base/installed/crio-stand-in.sh');

export async function makeSoakNode(): Promise<SoakNode> {
  const fixture: RegistryFixture = await makeRegistryFixture();
  const bundle = await fixture.bundleOf(['oci', 'store', 'registry']);
  const data = await makeDataDisk({ ...fixture, bundle });
  const disk = await mkdtemp(join(fixture.work, 'node-'));
  const crio = async (node: MountNode, what: 'wipe' | 'start' | 'stop') => await node.output('bash', [CRIO, what]);
  return {
    work: fixture.work,
    disk,
    data,
    images: fixture.all,
    boot: async () => {
      const node = await openMountNode(fixture, { disk });
      await crio(node, 'wipe');
      await crio(node, 'start');
      return node;
    },
    stop: async (node) => {
      await crio(node, 'stop');
      await node[Symbol.asyncDispose]();
    },
    args: (delivery) => ['run', ...delivery.args, '--label', data.label, '--retries', '0'],
    [Symbol.asyncDispose]: async () => {
      await data[Symbol.asyncDispose]();
      await rm(disk, { recursive: true, force: true });
      await fixture[Symbol.asyncDispose]();
    },
  };
}

/** Runs a delivery to its end and reads every byte of what it has brought. */
export async function deliverAll(soak: SoakNode, node: MountNode, delivery: Delivery): Promise<void> {
  const { exitCode, stdout, stderr } = await node.agent(soak.args(delivery));
  assert.equal(exitCode, 0, `${delivery.name}: ${stdout}${stderr}`);
  await verifyImages(node, soak.images, delivery.transport);
}
