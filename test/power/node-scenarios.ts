import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { hexOf } from '../../agent/model/digest.ts';
import { DISK_COPY_PATH, REGISTRY_PATH } from '../../agent/model/places.ts';
import { runStateOf } from '../../agent/model/run-state.ts';
import { unsealRecord } from '../../agent/model/seal.ts';
import { DURABLE_STATE } from '../../agent/state/run-record.ts';
import { type MirroredImage, writeMirror } from '../support/mirror-archives.ts';
import { type MountFixture, type MountNode, makeMountFixture, openMountNode } from '../support/mount-node.ts';
import { repositoryOf } from '../support/registry-node.ts';
import { type FileSystem, makeCutDisk } from './cut-disk.ts';
import type { PoweredPlace, PowerScenario } from './trial.ts';
import { type Transport, verifyImages } from './verify-node.ts';

interface NodeScenario {
  readonly name: string;
  /** Arguments of the command; the bundle's directory comes behind them where it is a run. */
  readonly args: readonly string[];
  /** Where images are read from to verify them. */
  readonly transport: Transport;
  /** The bundle's directory. */
  bundle?(fixture: MountFixture): Promise<string>;
}

const RUN = ['run', '--stage', 'installed'];

const nodeScenarios: readonly NodeScenario[] = [
  { name: 'extract', args: [...RUN, '--delivery', 'extract'], transport: 'containers-storage' },
  { name: 'mount from a copy on the disk', args: [...RUN, '--delivery', 'mount', '--placement', 'disk'], transport: 'containers-storage' },
  { name: 'registry of an OCI layout', args: [...RUN, '--delivery', 'registry'], transport: 'docker' },
  { name: 'registry of archives of oc-mirror', args: [...RUN, '--delivery', 'registry'], transport: 'docker', bundle: writeOcMirror },
];

export const nodePowerScenarios: readonly PowerScenario[] = nodeScenarios.map((scenario) => ({
  name: scenario.name,
  prepare: async () => {
    const fixture = await makeMountFixture(['store', 'oci']);
    const bundle = (await scenario.bundle?.(fixture)) ?? fixture.bundle;
    const registry = scenario.transport === 'docker' ? ['--registry-image', fixture.images.registry.reference] : [];
    const args = [...scenario.args, '--bundle', bundle, ...registry];
    return {
      open: async (fileSystem) => await openPlace(fixture, fileSystem, { ...scenario, args }),
      [Symbol.asyncDispose]: async () => await fixture[Symbol.asyncDispose](),
    };
  },
}));

/** What is undone is a store that was opened from a copy on the disk, with an image loaded on top of it. */
export const releasePowerScenario: PowerScenario = {
  name: 'release',
  prepare: async () => {
    const fixture = await makeMountFixture(['store', 'oci']);
    const set = [...RUN, '--delivery', 'mount', '--placement', 'disk', '--bundle', fixture.bundle];
    return {
      open: async (fileSystem) => {
        const place = await openPlace(fixture, fileSystem, { args: ['release', '--yes'], transport: 'containers-storage' });
        const ran = await place.node().agent(set);
        assert.equal(ran.exitCode, 0, ran.stderr);
        return {
          ...place,
          claimsDone: async () => (await leftOf(place.node())).length === 0,
          verify: async () => undefined,
          verifyKept: async () => undefined,
        };
      },
      [Symbol.asyncDispose]: async () => await fixture[Symbol.asyncDispose](),
    };
  },
};

async function openPlace(
  fixture: MountFixture,
  fileSystem: FileSystem,
  { args, transport }: Pick<NodeScenario, 'args' | 'transport'>,
): Promise<PoweredPlace & { readonly node: () => MountNode }> {
  const isExtracted = args.includes('extract');
  const disk = await makeCutDisk(fileSystem);
  // Nothing but the node's own files: ext4 has a lost+found at its top.
  const root = join(disk.directory, 'node');
  await mkdir(root);
  let node = await openMountNode(fixture, { disk: root });
  return {
    node: () => node,
    start: () => ({ ended: node.agent(args) }),
    sync: async () => await disk.sync(),
    cut: async (how) => await disk.cut(how),
    reboot: async () => {
      await node[Symbol.asyncDispose]();
      await disk.reboot();
      node = await openMountNode(fixture, { disk: root });
    },
    [Symbol.asyncDispose]: async () => {
      await node[Symbol.asyncDispose]();
      await disk[Symbol.asyncDispose]();
    },
    claimsDone: async () => (await durableState(node))?.outcome === 'complete',
    verify: async () => await verifyImages(node, fixture.all, transport),
    verifyKept: async (isClaimed) => {
      await verifyCopies(node);
      if (isClaimed && transport === 'docker') await verifyTree(node);
      if (isClaimed && isExtracted) await verifyImages(node, fixture.all, transport);
    },
    end: async () => ({ etc: await contentsBelow(node, '/etc/containers'), ours: await leftOf(node) }),
  };
}

async function durableState(node: MountNode) {
  const text = await readFile(node.path(DURABLE_STATE), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const state = runStateOf(unsealRecord(text));
  assert.ok(state, `the state on the disk is damaged: ${text.length} bytes`);
  return state;
}

/** Copies of store images are named for their sha256, and their name is what a later boot goes by. */
async function verifyCopies(node: MountNode): Promise<void> {
  const directory = node.path(DISK_COPY_PATH);
  const names = (await readdir(directory).catch(() => [])).filter((name) => /^[0-9a-f]{64}\.squashfs$/.test(name));
  for (const name of names) {
    const bytes = await readFile(join(directory, name));
    assert.equal(createHash('sha256').update(bytes).digest('hex'), name.slice(0, 64), `${name} has ${bytes.length} bytes`);
  }
}

/** Blobs of a registry's tree are named for their sha256, too; distribution serves them without a look at their bytes. */
async function verifyTree(node: MountNode): Promise<void> {
  const top = node.path(join(REGISTRY_PATH, 'docker/registry/v2/blobs/sha256'));
  const entries = await readdir(top, { recursive: true, withFileTypes: true });
  const blobs = entries.filter((entry) => entry.name === 'data');
  assert.ok(blobs.length > 0);
  for (const { parentPath } of blobs) {
    const bytes = await readFile(join(parentPath, 'data'));
    assert.equal(createHash('sha256').update(bytes).digest('hex'), basename(parentPath), `it has ${bytes.length} bytes`);
  }
}

/** Paths below the agent's places on the disk; the storage of the registry's image has names made at random. */
async function leftOf(node: MountNode): Promise<readonly string[]> {
  const top = '/var/lib/prestage-agent';
  const found = await node.output('find', [
    top,
    '-xdev',
    '-mindepth',
    '1',
    '-not',
    '-path',
    `${top}/registry-image/*`,
    '-printf',
    '%P %y\\n',
  ]);
  return found
    .split('\n')
    .filter((line) => line !== '' && line !== 'state.json f')
    .toSorted();
}

/** The files below a directory with their content; lock files of podman are left out. */
async function contentsBelow(node: MountNode, directory: string): Promise<Readonly<Record<string, string>>> {
  const top = node.path(directory);
  const entries = await readdir(top, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const read = await Promise.all(files.map(async (path) => [path.slice(top.length), await readFile(path, 'utf8')] as const));
  return Object.fromEntries(read.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** The images as oc-mirror brings them: in two archives, with the set that says where they came from. */
async function writeOcMirror({ work, blobs, all }: MountFixture): Promise<string> {
  const directory = join(work, 'oc-mirror');
  const images = all.map((image): MirroredImage => {
    const repository = repositoryOf(image).replace(/^quay\.io\//, '');
    return { repository, tag: /:([^:@/]+)$/.exec(image.reference.replace(/@.*/, ''))?.[1] ?? hexOf(image.digest).slice(0, 12), image };
  });
  const idms = `apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: idms-release-0}
spec: {imageDigestMirrors: [{source: quay.io/example, mirrors: [localhost:5000/example]}]}
`;
  const itms = idms
    .replace('ImageDigestMirrorSet', 'ImageTagMirrorSet')
    .replace('idms-', 'itms-')
    .replace('imageDigestMirrors', 'imageTagMirrors');
  await writeMirror(directory, {
    store: blobs,
    images,
    archives: 2,
    members: {
      'working-dir/cluster-resources/idms-oc-mirror.yaml': idms,
      'working-dir/cluster-resources/itms-oc-mirror.yaml': itms,
    },
  });
  return directory;
}
