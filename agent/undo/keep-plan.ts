import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import { readMounts } from '../host/mount-table.ts';
import { STORE_PATH } from '../model/places.ts';
import { containerTitle } from '../storage/container-owner.ts';
import {
  type ContainerRecord,
  type ImageRecord,
  type LayerRecord,
  readContainerRecords,
  readImageRecords,
  readLayerRecords,
  type StorageLocation,
} from '../storage/records.ts';

/** An image of a running container that needs layers which the store image has and the main store lacks. */
export interface KeptImage {
  /** 64 hex digits: the digest of its config. */
  readonly id: string;
  readonly names: readonly string[];
  /** The running containers, by name. */
  readonly containers: readonly string[];
  /** Layers of the containers' chains that the store image has. */
  readonly layers: readonly string[];
}

/** Working directory of copies, with one directory for each image: on the disk, because they are as large as the unpacked image. */
export const KEEP_PATH = '/var/lib/prestage-agent/keep';

/** Start of the names of images while they are copied; an image without any other name keeps it. */
export const KEPT_NAME = 'localhost/prestage-agent/kept:';

export interface KeepFacts {
  readonly main: {
    readonly images: readonly ImageRecord[];
    readonly layers: readonly LayerRecord[];
    readonly containers: readonly ContainerRecord[];
  };
  readonly store: { readonly images: readonly ImageRecord[]; readonly layers: readonly LayerRecord[] };
  /** Layers of containers that are mounted. */
  readonly running: ReadonlySet<string>;
  /** Layers of the main store that name a layer below them by a short link that only the store image has. */
  readonly unlinked: ReadonlySet<string>;
  /** Ids of images whose copy was started by a release that was interrupted. */
  readonly begun: ReadonlySet<string>;
}

/** The images that running containers use and that would be lost with the store image. Changes nothing. */
export async function findImagesToKeep(host: Host, location: StorageLocation): Promise<readonly KeptImage[]> {
  const store = { graphroot: hostPath(host, STORE_PATH) };
  const [images, layers, containers, storeImages, storeLayers, mounts] = await Promise.all([
    readImageRecords(location),
    readLayerRecords(location),
    readContainerRecords(location),
    readImageRecords(store),
    readLayerRecords(store),
    readMounts(),
  ]);
  const running = new Set(
    containers.flatMap(({ layer }) =>
      layer !== undefined && mounts.some(({ target }) => target.endsWith(`/overlay/${layer}/merged`)) ? [layer] : [],
    ),
  );
  const unlinked = await filterAsync(layers, async ({ id }) => await isUnlinked(location.graphroot, id));
  const begun = await filterAsync([...images, ...storeImages], async ({ id }) => existsSync(hostPath(host, join(KEEP_PATH, id))));
  const idsOf = (records: readonly { readonly id: string }[]) => new Set(records.map(({ id }) => id));
  return imagesToKeep({
    main: { images, layers, containers },
    store: { images: storeImages, layers: storeLayers },
    running,
    unlinked: idsOf(unlinked),
    begun: idsOf(begun),
  });
}

/** The decision of findImagesToKeep. Pure. */
export function imagesToKeep({ main, store, running, unlinked, begun }: KeepFacts): readonly KeptImage[] {
  const own = new Set(main.layers.map(({ id }) => id));
  const stored = new Set(store.layers.map(({ id }) => id));
  const parents = new Map([...store.layers, ...main.layers].map(({ id, parent }) => [id, parent ?? '']));
  const kept = new Map<string, KeptImage>();
  for (const container of main.containers) {
    const { image: id, layer } = container;
    if (id === undefined || layer === undefined || !running.has(layer)) continue;
    const chain = chainOf(layer, parents);
    const isNeeded = begun.has(id) || chain.some((each) => unlinked.has(each) || (!own.has(each) && stored.has(each)));
    if (!isNeeded) continue;
    const names = [...main.images, ...store.images]
      .filter((image) => image.id === id)
      .flatMap((image) => image.names ?? [])
      .filter((name) => !name.startsWith(KEPT_NAME));
    const before = kept.get(id);
    kept.set(id, {
      id,
      names: [...new Set(names)],
      containers: [...(before?.containers ?? []), containerTitle(container)],
      layers: [...new Set([...(before?.layers ?? []), ...chain.filter((each) => stored.has(each))])],
    });
  }
  return [...kept.values()];
}

function chainOf(top: string, parents: ReadonlyMap<string, string>): readonly string[] {
  const chain: string[] = [];
  for (let id = top; id !== '' && !chain.includes(id); id = parents.get(id) ?? '') chain.push(id);
  return chain;
}

/** `lower` names the layers below by short links, from the nearest down: `l/ABC:l/DEF`. Source: containers/storage, drivers/overlay/overlay.go. */
async function isUnlinked(graphroot: string, layer: string): Promise<boolean> {
  const lower = await readFile(join(graphroot, 'overlay', layer, 'lower'), 'utf8').catch(() => '');
  const links = lower.split(':').filter((link) => link.startsWith('l/'));
  return (await filterAsync(links, async (link) => !existsSync(join(graphroot, 'overlay', link)))).length > 0;
}

async function filterAsync<T>(items: readonly T[], takes: (item: T) => Promise<boolean>): Promise<readonly T[]> {
  const taken = await Promise.all(items.map(takes));
  return items.filter((_, index) => taken[index]);
}
