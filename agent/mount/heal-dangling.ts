import { mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Act } from '../host/acts.ts';
import { writeAtomic } from '../host/atomic.ts';
import { type ExecResult, howEnded, quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { readMounts } from '../host/mount-table.ts';
import { removeTree } from '../host/remove-tree.ts';
import { digestOf, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import type { StorageLocation } from '../storage/records.ts';
import { askCrictl, endPod } from './crictl.ts';
import { type Dangling, findDangling, findUnfinished, isNothing, type LeftoverLayer, podsOf } from './dangling.ts';

export interface HealRequest {
  /** The main store. */
  readonly location: StorageLocation;
  /** Graphroots of the additional stores that count as present, and that podman uses. */
  readonly stores: readonly string[];
  readonly act: Act;
}

/** Working directory of the healing, for a configuration of podman and the scaffold. In memory, so it does not survive a reboot. */
const HEAL_PATH = '/run/prestage-agent/heal';

/** Short name of a layer of the scaffold in overlay/l: 26 characters. Source: github.com/containers/storage, drivers/overlay/overlay.go. */
const LINK_LENGTH = 26;

/**
 * Removes what dangles in the main store by podman, which takes the locks of containers-storage: first containers, then image records, then unused
 * layers. Nothing else is touched. Afterwards `podman images` works. This ends running containers on lost layers, which could not be restarted anyway.
 * @returns what was removed, for people; empty if nothing dangled, and then podman was not started
 * @throws PrestageError ERR_STORE_DANGLING if something is left, ERR_STORAGE
 */
export async function healDangling(host: Host, request: HealRequest): Promise<readonly string[]> {
  const { location, stores } = request;
  const found = await findDangling(location, stores);
  if (isNothing(found)) {
    // Left by a healing that was killed after it had done everything else.
    await removeTree(hostPath(host, HEAL_PATH));
    return [];
  }
  await using podman = await preparePodman(host, request);
  const containers = await removeContainers(host, podman, { ...request, found });
  const images = await removeImages(podman, request);
  const layers = await removeLayers(host, podman, request, async () => (await findDangling(location, stores)).layers);
  await assertHealed(podman, request);
  return [...containers, ...images, ...layers];
}

/**
 * Removes from the main store what interrupted loads of these blobs have left: a power cut may have cut files of the layers short, and the next load
 * of an image would build on them.
 * @returns what was removed, for people
 * @throws PrestageError ERR_STORAGE_DAMAGED if something is left, ERR_STORAGE
 */
export async function removeUnfinished(host: Host, request: HealRequest, blobs: ReadonlySet<string>): Promise<readonly string[]> {
  const { location, act } = request;
  const { images, layers } = await findUnfinished(location, blobs);
  if (images.length + layers.length === 0) return [];
  await using podman = await preparePodman(host, request);
  for (const { id } of images) await act('heal-image', async () => await podman.run(['rmi', '--force', id]));
  const removed = await removeLayers(host, podman, request, async () => (await findUnfinished(location, blobs)).layers);
  const left = await findUnfinished(location, blobs);
  const [first] = [...left.images, ...left.layers];
  if (first === undefined) return [...images.map(({ id }) => `image ${id}`), ...removed];
  throw new PrestageError(
    'ERR_STORAGE_DAMAGED',
    `${first.id} in ${location.graphroot} may have files cut short by a power cut, and podman could not remove it`,
    'Stop what uses it (podman ps --all --external and crictl pods list it), then start the run again',
  );
}

interface Podman extends AsyncDisposable {
  /** @param scaffold a further store */
  run(args: readonly string[], scaffold?: string): Promise<ExecResult>;
}

/**
 * Podman with exactly these stores. For the default storage of an engine it gets a storage.conf of ours: with the roots as options, podman would compare
 * them with its own records, and the storage.conf of the node may list the store that is to be removed.
 */
async function preparePodman(host: Host, { location, stores }: HealRequest): Promise<Podman> {
  const directory = hostPath(host, HEAL_PATH);
  await removeTree(directory);
  const { graphroot, runroot } = location;
  const run: Podman['run'] = async (args, scaffold) => {
    const all = scaffold === undefined ? stores : [...stores, scaffold];
    const conf = join(directory, 'storage.conf');
    const quoted = [graphroot, runroot].map((path) => JSON.stringify(path));
    await writeAtomic(
      conf,
      `[storage]\ndriver = "overlay"\ngraphroot = ${quoted[0]}\nrunroot = ${quoted[1]}\n[storage.options]\nadditionalimagestores = ${JSON.stringify(all)}\n`,
    );
    const options = all.flatMap((store) => ['--storage-opt', `additionalimagestore=${store}`]);
    const roots = location.isEngineDefault ? [] : ['--root', graphroot, '--runroot', runroot, '--storage-driver', 'overlay', ...options];
    return await host.exec('podman', [...roots, ...args], { env: { CONTAINERS_STORAGE_CONF: conf } });
  };
  return { run, [Symbol.asyncDispose]: async () => await removeTree(directory) };
}

/**
 * Removes containers first: containers of other engines, which podman knows only from the records of storage, keep an image from being removed. A
 * running CRI-O is asked to end its pods itself, because it would keep listing pods whose records somebody else removed.
 */
async function removeContainers(
  host: Host,
  podman: Podman,
  request: HealRequest & { readonly found: Dangling },
): Promise<readonly string[]> {
  const { containers } = request.found;
  if (containers.length === 0) return [];
  const mounted = (await readMounts()).map(({ target }) => target);
  await endPods(host, containers, request.act);
  await removeAll(podman, ['rm', '--force'], 'heal-container', request, (dangling) => dangling.containers);
  return containers.map(({ title, layer }) => {
    const wasRunning = mounted.some((target) => target.endsWith(`/overlay/${layer}/merged`));
    return `container ${title}${wasRunning ? ', which was running' : ''}`;
  });
}

async function endPods(host: Host, containers: Dangling['containers'], act: Act): Promise<void> {
  const pods = podsOf(containers);
  if (pods.length === 0 || (await askCrictl(host)).kind !== 'answers') return;
  for (const pod of pods) {
    const reason = await act('heal-container', async () => await endPod(host, pod));
    if (reason !== undefined) host.log('warning', `pod ${pod.name} could not be ended: ${reason}; podman removes its records`);
  }
}

async function removeImages(podman: Podman, request: HealRequest): Promise<readonly string[]> {
  const before = (await findDangling(request.location, request.stores)).images;
  await removeAll(podman, ['rmi', '--force'], 'heal-image', request, (dangling) => dangling.images);
  return before.map(({ names, id, reason }) => `image ${names[0] ?? id} (${reason})`);
}

/** Removes all by one call of podman, then the rest one by one: podman stops at the first that it cannot remove. */
async function removeAll(
  podman: Podman,
  command: readonly string[],
  name: 'heal-container' | 'heal-image',
  { location, stores, act }: HealRequest,
  pick: (dangling: Dangling) => readonly { readonly id: string }[],
): Promise<void> {
  const ids = async () => pick(await findDangling(location, stores)).map(({ id }) => id);
  const all = await ids();
  if (all.length === 0) return;
  await act(name, async () => await podman.run([...command, ...all]));
  for (const id of await ids()) await act(name, async () => await podman.run([...command, id]));
}

/**
 * Podman has no command that removes a layer. But an image that is tagged gets a record in the main store, and when the last record of a layer is
 * removed, the layer is removed too. So an additional store of our own, the scaffold, brings the missing parents as empty layers, and an image for each
 * layer to remove; that image is tagged and then removed. Editing layers.json instead would need the locks of containers-storage, which are locks of
 * fcntl(2), not of flock(2). A kill between tagging and removing leaves a dangling image record, which the next healing removes.
 */
async function removeLayers(
  host: Host,
  podman: Podman,
  request: HealRequest,
  find: () => Promise<readonly LeftoverLayer[]>,
): Promise<readonly string[]> {
  const removed: string[] = [];
  for (let left = await find(), before = Number.POSITIVE_INFINITY; left.length > 0 && left.length !== before; ) {
    before = left.length;
    const scaffold = join(hostPath(host, HEAL_PATH), 'scaffold');
    await writeScaffold(scaffold, left);
    for (const layer of left) {
      const name = `localhost/prestage-agent/leftover:${layer.id.slice(0, 12)}`;
      await request.act('heal-layer', async () => {
        await podman.run(['tag', scaffoldImage(layer), name], scaffold);
        await podman.run(['rmi', '--force', name], scaffold);
      });
    }
    removed.push(...left.map(({ id }) => `layer ${id}`));
    left = await find();
  }
  return removed;
}

/** A store with the missing layers, empty, and an image on top of each leftover layer. Source: containers/storage, layers.go, images.go. */
async function writeScaffold(directory: string, leftovers: readonly LeftoverLayer[]): Promise<void> {
  await removeTree(directory);
  await mkdir(join(directory, 'overlay/l'), { recursive: true });
  const missing = [...new Set(leftovers.flatMap((layer) => layer.missing ?? []))];
  for (const id of missing) {
    const link = hexOf(digestOf(`scaffold ${id}`))
      .slice(0, LINK_LENGTH)
      .toUpperCase();
    await mkdir(join(directory, 'overlay', id, 'diff'), { recursive: true });
    await writeAtomic(join(directory, 'overlay', id, 'link'), link);
    await symlink(`../${id}/diff`, join(directory, 'overlay/l', link));
  }
  const layers = missing.map((id) => ({ id, created: '2024-01-01T00:00:00Z' }));
  const images = leftovers.map((layer) => ({ id: scaffoldImage(layer), layer: layer.id, created: '2024-01-01T00:00:00Z' }));
  await writeAtomic(join(directory, 'overlay-layers/layers.json'), JSON.stringify(layers));
  await writeAtomic(join(directory, 'overlay-images/images.json'), JSON.stringify(images));
  for (const lock of ['overlay-layers/layers.lock', 'overlay-images/images.lock', 'storage.lock'])
    await writeAtomic(join(directory, lock), '');
}

function scaffoldImage({ id }: LeftoverLayer): string {
  return hexOf(digestOf(`leftover ${id}`));
}

async function assertHealed(podman: Podman, { location, stores }: HealRequest): Promise<void> {
  const listed = await podman.run(['images', '--quiet']);
  const { images, containers, layers } = await findDangling(location, stores);
  const left = [...images, ...containers, ...layers].map(({ id }) => id);
  if (listed.exitCode === 0 && left.length === 0) return;
  const what = left.length === 0 ? '' : `; these records are left: ${left.join(', ')}`;
  throw new PrestageError(
    'ERR_STORE_DANGLING',
    `records in ${location.graphroot} depend on a store image that is gone, and podman could not remove them (podman images ${howEnded(listed)}: ${quote(listed.stderr)})${what}`,
    'End the pods and containers that use them: crictl pods, then crictl rmp --force POD; podman ps --all --external, then podman rm --force ID. Then podman rmi --force ID for each image, and start the run again',
  );
}
