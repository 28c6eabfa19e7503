import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { TOP } from './cache.ts';
import { COMPILE_CACHE } from './compile-cache.ts';
import { builtExecutable } from './executable.ts';
import { type ImageSet, smallImageSet } from './image-set.ts';
import { type MadeImage, writeDirLayout } from './images.ts';
import { type NodeSandbox, openSandbox } from './sandbox.ts';

/** The store image of a test, and images to pull on top of it. */
export interface StoreFixture {
  readonly set: ImageSet;
  /** A squashfs of a containers-storage. */
  readonly image: string;
  /** The skopeo source of an image of the set. */
  source(image: MadeImage): string;
}

/** Where the store of a StoreNode is mounted, as additional image store of the engines. */
export const STORE = '/var/lib/prestage-agent/store';

/** Makes a store image of some images below a directory that every sandbox sees. */
export async function makeStoreFixture(work: string, pick: (set: ImageSet) => readonly MadeImage[]): Promise<StoreFixture> {
  const set = await smallImageSet();
  for (const image of set.all) await writeDirLayout(set.store, image, dirOf(work, image));
  const graphroot = join(work, 'store');
  const image = join(work, 'store.squashfs');
  for (const each of pick(set)) {
    const destination = `containers-storage:[overlay@${graphroot}+${join(work, 'r')}]${each.reference}`;
    await output(execOnLinux, 'skopeo', ['copy', '--quiet', '--preserve-digests', `dir:${dirOf(work, each)}`, destination]);
  }
  await execOnLinux('umount', [join(graphroot, 'overlay')]);
  await output(execOnLinux, 'mksquashfs', [graphroot, image, '-comp', 'zstd', '-quiet', '-no-progress']);
  return { set, image, source: (each) => `dir:${dirOf(work, each)}` };
}

function dirOf(work: string, image: MadeImage): string {
  return join(work, 'dir', image.digest.replace(':', '-'));
}

/** A node on which a store image is mounted over a valid empty store, and which the engines are told of. */
export interface StoreNode extends NodeSandbox {
  /** Loads an image into the main store, as a pull would: layers that the store has are not copied. */
  pull(image: MadeImage): Promise<void>;
  podman(...args: readonly string[]): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }>;
  /** Starts a container that goes on until it is stopped. */
  startContainer(image: string, name: string): Promise<void>;
  loseStore(): Promise<void>;
  bringStore(): Promise<void>;
  /** Evaluates an expression in a process of the node, with the modules of the agent by their path below agent/, and gives its JSON. */
  evaluate(modules: readonly string[], expression: string): Promise<unknown>;
  /** `prestage-agent`, run from its sources. */
  agent(...args: readonly string[]): Promise<{ readonly exitCode: number; readonly stdout: string; readonly stderr: string }>;
  /** References that storage's records have, with what is listed twice; fails where `podman images` does. */
  images(): Promise<readonly string[]>;
}

const STORAGE_CONF = `[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
[storage.options]
additionalimagestores = ["${STORE}"]
`;

const EMPTY_STORE = `
mkdir -p $1/overlay/l $1/overlay-images $1/overlay-layers
for json in $1/overlay-images/images.json $1/overlay-layers/layers.json; do echo '[]' > $json; done
touch $1/overlay-images/images.lock $1/overlay-layers/layers.lock $1/storage.lock`;

const HOST_AND_STEP = `
const { linuxHost } = await import('TOP/agent/host/linux.ts');
const { plainAct: act } = await import('TOP/agent/host/acts.ts');
const messages = [];
const host = linuxHost({ root: '/', env: process.env, log: (severity, message) => messages.push(severity + ': ' + message) });
const location = { graphroot: '/var/lib/containers/storage', runroot: '/run/containers/storage', isEngineDefault: true };
const STORE = '${STORE}';
`;

/**
 * @param files that the node has besides; with a storage.conf of their own, engines are not told of the store
 * @param usr a directory that is its /usr
 */
export async function openStoreNode(
  fixture: Pick<StoreFixture, 'image' | 'source'>,
  files: Readonly<Record<string, string>> = {},
  usr?: string,
): Promise<StoreNode> {
  const node = await openSandbox({
    files: { '/etc/containers/storage.conf': STORAGE_CONF, ...files },
    ...(usr !== undefined && { usr }),
  });
  await mkdir(node.path(STORE), { recursive: true });
  await node.output('sh', ['-c', EMPTY_STORE, 'sh', STORE]);
  const podman: StoreNode['podman'] = async (...args) => await node.exec('podman', args);
  const bringStore = async () => void (await node.output('mount', ['-t', 'squashfs', '-o', 'loop,ro', fixture.image, STORE]));
  await bringStore();
  return {
    ...node,
    podman,
    bringStore,
    pull: async (image) => {
      const args = ['copy', '--quiet', '--preserve-digests', fixture.source(image), `containers-storage:${image.reference}`];
      await node.output('skopeo', args);
    },
    startContainer: async (image, name) => {
      const loop = 'trap "exit 0" TERM; while :; do sleep 0.2; done';
      await node.output('podman', ['run', '--detach', '--name', name, '--network=host', '--pull=never', image, 'sh', '-c', loop]);
    },
    loseStore: async () => void (await node.output('umount', [STORE])),
    evaluate: async (modules, expression) => {
      const imports = modules.map((module) => `Object.assign(globalThis, await import('TOP/agent/${module}'));`);
      const script = `${HOST_AND_STEP}${imports.join('\n')}\nconsole.log(JSON.stringify(${expression}));`.replaceAll(
        'TOP',
        `file://${TOP}`,
      );
      return JSON.parse(await node.output(process.execPath, ['--input-type=module', '--eval', script], { env: COMPILE_CACHE }));
    },
    agent: async (...args) => await node.exec(await builtExecutable(), args),
    images: async () => {
      const listed: { Names?: string[]; Digests?: string[] }[] = JSON.parse(
        await node.output('podman', ['images', '--all', '--format', 'json']),
      );
      return listed.flatMap((image) => image.Names ?? []).toSorted();
    },
  };
}
