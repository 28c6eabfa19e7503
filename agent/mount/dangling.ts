import { join } from 'node:path';
import { isDirectory } from '../host/files.ts';
import { containerTitle, type Pod, podOf } from '../storage/container-owner.ts';
import {
  type ContainerRecord,
  type ImageRecord,
  type LayerRecord,
  type RecordsLocation,
  readContainerRecords,
  readImageRecords,
  readLayerRecords,
} from '../storage/records.ts';

/** An image record of the main store that no command can read completely: `podman images` fails as long as it exists. */
export interface DanglingImage {
  /** 64 hex digits. */
  readonly id: string;
  readonly names: readonly string[];
  /** What it lacks, in words. */
  readonly reason: string;
}

/** A container, of whichever engine, that can never be started again. */
export interface DanglingContainer {
  readonly id: string;
  readonly names: readonly string[];
  readonly layer: string;
  /** Its name in messages. */
  readonly title: string;
  /** The pod that it belongs to, if CRI-O made it. */
  readonly pod?: Pod;
}

/** What in a main store depends on something that is in no store any more. */
export interface Dangling {
  readonly images: readonly DanglingImage[];
  readonly containers: readonly DanglingContainer[];
  /**
   * Unused layers whose parent is gone, left behind by an interrupted pull. A later pull would build on them, and its image would not start: such a
   * layer names its parents by short links (overlay/l) that only the lost store had. Only the topmost of each chain.
   */
  readonly layers: readonly LeftoverLayer[];
}

/** The pods of some containers, each once. Pure. */
export function podsOf(containers: readonly Pick<DanglingContainer, 'pod'>[]): readonly Pod[] {
  return [...new Map(containers.flatMap(({ pod }) => (pod === undefined ? [] : [[pod.id, pod] as const]))).values()];
}

/** A layer of the main store that nothing uses any more. */
export interface LeftoverLayer {
  readonly id: string;
  /** The layer of its chain that no store has; left out if the chain is complete. */
  readonly missing?: string;
}

/** The records of one store. */
export interface StoreRecords {
  readonly images: readonly (ImageRecord & { /** It has a directory of its own, with its manifest. */ readonly hasData: boolean })[];
  readonly layers: readonly LayerRecord[];
  readonly containers: readonly ContainerRecord[];
}

/**
 * Finds what dangles in the main store: records whose chain of layers is not complete in it and the additional stores. Only reads records; takes no
 * lock and starts no program.
 * @param stores graphroots of the additional stores that exist now; a missing or empty one does not count
 * @param assumed a further store, for a question about a planned state
 * @throws PrestageError ERR_STORAGE if records cannot be read
 */
export async function findDangling(location: RecordsLocation, stores: readonly string[], assumed?: StoreRecords): Promise<Dangling> {
  const [main, ...additional] = await Promise.all([location, ...stores.map((graphroot) => ({ graphroot }))].map(readRecords));
  return main === undefined ? NOTHING : danglingOf(main, [...additional, ...(assumed === undefined ? [] : [assumed])]);
}

const NOTHING: Dangling = { images: [], containers: [], layers: [] };

export function isNothing({ images, containers, layers }: Dangling): boolean {
  return images.length + containers.length + layers.length === 0;
}

/** What an interrupted load has left in a main store. The next load of the image would build on these layers without checking their files. */
export interface Unfinished {
  /** Image records that do not have a name or a digest yet. */
  readonly images: readonly { readonly id: string }[];
  /** Unused layers, whether their chains are complete or not. Only the topmost of each chain. */
  readonly layers: readonly LeftoverLayer[];
}

/**
 * Finds images and layers left behind by interrupted loads: they contain one of these blobs or are stacked on one.
 * @throws PrestageError ERR_STORAGE if records cannot be read
 */
export async function findUnfinished(location: RecordsLocation, blobs: ReadonlySet<string>): Promise<Unfinished> {
  return unfinishedOf(await readRecords(location), blobs);
}

/** The decision of findUnfinished. Pure. */
export function unfinishedOf(main: StoreRecords, blobs: ReadonlySet<string>): Unfinished {
  const byId = new Map(main.layers.map((layer) => [layer.id, layer]));
  const parents = new Map(main.layers.map(({ id, parent }) => [id, parent ?? '']));
  const holds = (id: string): boolean =>
    [byId.get(id)?.['compressed-diff-digest'], byId.get(id)?.['diff-digest']].some((digest) => digest !== undefined && blobs.has(digest));
  const images = main.images.filter(
    ({ names, digest, layer }) => (names ?? []).length === 0 && digest === undefined && chainOf(layer ?? '', parents).some(holds),
  );
  const layers = topmostUnused(main, parents).flatMap((id) => {
    const missing = missingBelow(id, parents);
    return chainOf(id, parents).some(holds) ? [{ id, ...(missing !== undefined && { missing }) }] : [];
  });
  return { images: images.map(({ id }) => ({ id })), layers };
}

async function readRecords(location: RecordsLocation): Promise<StoreRecords> {
  const [images, layers, containers] = await Promise.all([
    readImageRecords(location),
    readLayerRecords(location),
    readContainerRecords(location),
  ]);
  const withData = images.map(async (image) => ({
    ...image,
    hasData: await isDirectory(join(location.graphroot, 'overlay-images', image.id)),
  }));
  return { images: await Promise.all(withData), layers, containers };
}

/** The decision of findDangling. Pure. */
export function danglingOf(main: StoreRecords, additional: readonly StoreRecords[]): Dangling {
  const parents = new Map([...additional.flatMap((store) => store.layers), ...main.layers].map(({ id, parent }) => [id, parent ?? '']));
  const held = new Set(additional.flatMap((store) => store.images).map(({ id }) => id));
  const images = main.images.flatMap((image): readonly DanglingImage[] => {
    const missing = missingBelow(image.layer ?? '', parents);
    const reason = missing === undefined ? lacksData(image, held) : `no store has its layer ${missing}`;
    return reason === undefined ? [] : [{ id: image.id, names: image.names ?? [], reason }];
  });
  const containers = main.containers.flatMap((container): readonly DanglingContainer[] => {
    const layer = container.layer ?? '';
    if (missingBelow(layer, parents) === undefined) return [];
    const pod = podOf(container);
    return [{ id: container.id, names: container.names ?? [], layer, title: containerTitle(container), ...(pod && { pod }) }];
  });
  return { images, containers, layers: leftovers(main, parents) };
}

/** The first layer of a chain, from its top, that no store has. */
function missingBelow(top: string, parents: ReadonlyMap<string, string>): string | undefined {
  return chainOf(top, parents).find((id) => !parents.has(id));
}

/** The layers of a chain from its top, with the first one that no store has. */
function chainOf(top: string, parents: ReadonlyMap<string, string>): readonly string[] {
  const chain = new Set<string>();
  for (let id = top; id !== '' && !chain.has(id); id = parents.get(id) ?? '') chain.add(id);
  return [...chain];
}

/** `podman tag` of an image of an additional store writes a record into the main store whose manifest stays in the other one. */
function lacksData(image: StoreRecords['images'][number], held: ReadonlySet<string>): string | undefined {
  return image.hasData || held.has(image.id) ? undefined : 'no store has its manifest';
}

function leftovers(main: StoreRecords, parents: ReadonlyMap<string, string>): readonly LeftoverLayer[] {
  return topmostUnused(main, parents).flatMap((id) => {
    const missing = missingBelow(id, parents);
    return missing === undefined ? [] : [{ id, missing }];
  });
}

/** The topmost layers of the main store that no image and no container uses. */
function topmostUnused(main: StoreRecords, parents: ReadonlyMap<string, string>): readonly string[] {
  const used = new Set([...main.images, ...main.containers].flatMap(({ layer }) => chainOf(layer ?? '', parents)));
  const unused = main.layers.filter(({ id }) => !used.has(id));
  const carrying = new Set(unused.map(({ parent }) => parent));
  return unused.flatMap(({ id }) => (carrying.has(id) ? [] : [id]));
}
