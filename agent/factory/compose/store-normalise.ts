import { lstatSync, lutimesSync, readdirSync, symlinkSync } from 'node:fs';
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { removeTree } from '../../host/remove-tree.ts';
import { LOCK_FILES, tokenOf } from '../../storage/lock-token.ts';
import {
  chainBelow,
  layersBelow,
  linkNamesOf,
  longLinkNameOf,
  membersOf,
  normalImages,
  normalLayers,
  parentsOf,
  type StoredImage,
} from './store-records.ts';

export interface NormaliseOptions {
  /** Seconds since 1970, for all times that containers-storage takes from the clock. */
  readonly stampSeconds: number;
  /** The images of the store, by id. */
  readonly images: ReadonlyMap<string, StoredImage>;
}

/** A storage as skopeo left it. */
export interface UnpackedStorage {
  readonly graphroot: string;
  /** Texts of its records, before normalisation. */
  readonly records: { readonly layers: string; readonly images: string };
}

const LAYER_RECORDS = 'overlay-layers/layers.json';
const IMAGE_RECORDS = 'overlay-images/images.json';

export async function readStorage(graphroot: string): Promise<UnpackedStorage> {
  const [layers, images] = await Promise.all([LAYER_RECORDS, IMAGE_RECORDS].map((path) => readFile(join(graphroot, path), 'utf8')));
  return { graphroot, records: { layers: layers ?? '', images: images ?? '' } };
}

/** The parts of a storage; podman and newer libraries add others, which a read-only store does not need. */
const PARTS = ['overlay', 'overlay-containers', 'overlay-images', 'overlay-layers', 'storage.lock', 'userns.lock'] as const;
/** Names of folders and files of one layer or image begin with its id. */
const ID = /^[0-9a-f]{64}(?:\.|$)/;

const inflate = promisify(gunzip);

/**
 * Makes link names, times, order of records and lock files of a containers-storage depend on some of its images alone. Nobody else may use the
 * storage. The images' own data stays as it is: contents, owners, modes, extended attributes, and the times of all members of their layers. Can be
 * called again for other images of the same storage.
 *
 * Directories that are not members of a layer (containers-storage makes them as parents of members) and whiteouts get the given time.
 * @returns paths in the storage that do not belong to these images
 */
export async function normaliseStore({ graphroot, records }: UnpackedStorage, options: NormaliseOptions): Promise<readonly string[]> {
  const { images, stampSeconds } = options;
  const createdAt = new Date(stampSeconds * 1000).toISOString().replace('.000Z', 'Z');
  await removeForeign(graphroot);
  const kept = layersBelow(records.layers, records.images, images);
  const layerRecords = normalLayers(records.layers, kept, createdAt);
  const imageRecords = normalImages(records.images, images, createdAt);
  await writeFile(join(graphroot, LAYER_RECORDS), layerRecords, { mode: 0o600 });
  await writeFile(join(graphroot, IMAGE_RECORDS), imageRecords, { mode: 0o600 });
  // The records name everything in the store by its digest.
  for (const lock of LOCK_FILES) await writeFile(join(graphroot, lock), tokenOf(layerRecords, imageRecords));
  const layers = [...kept].toSorted();
  await nameLinks(graphroot, layers, records.layers);
  for (const layer of layers) await dateLayer(graphroot, layer, stampSeconds);
  dateTree(graphroot, stampSeconds, (path) => path.endsWith('/diff'));
  return await besides(graphroot, kept, new Set(images.keys()));
}

/** Paths in the folders of layers and images that do not belong to the kept ones. */
async function besides(graphroot: string, layers: ReadonlySet<string>, images: ReadonlySet<string>): Promise<readonly string[]> {
  const folders = [
    { folder: 'overlay', kept: layers },
    { folder: 'overlay-layers', kept: layers },
    { folder: 'overlay-images', kept: images },
  ];
  const found = folders.map(async ({ folder, kept }) => {
    const names = await readdir(join(graphroot, folder));
    return names.filter((name) => ID.test(name) && !kept.has(name.slice(0, 64))).map((name) => `${folder}/${name}`);
  });
  return (await Promise.all(found)).flat();
}

async function removeForeign(graphroot: string): Promise<void> {
  const kept = new Set<string>(PARTS);
  for (const name of await readdir(graphroot)) {
    if (!kept.has(name)) await removeTree(join(graphroot, name));
  }
}

/**
 * `link` holds a layer's own short name, `lower` the names of the layers below it, and `overlay/l` links names to layers. It has the long names as
 * well: containers that were made on a store of an earlier build use them.
 */
async function nameLinks(graphroot: string, layers: readonly string[], layerRecords: string): Promise<void> {
  const overlay = join(graphroot, 'overlay');
  const names = linkNamesOf(layers);
  const parents = parentsOf(layerRecords);
  await removeTree(join(overlay, 'l'));
  await mkdir(join(overlay, 'l'), { mode: 0o700 });
  for (const [layer, name] of names) {
    await writeFile(join(overlay, layer, 'link'), name);
    for (const link of [name, longLinkNameOf(layer)]) symlinkSync(`../${layer}/diff`, join(overlay, 'l', link));
    const below = chainBelow(parents, layer).map((one) => `l/${names.get(one) ?? ''}`);
    if (below.length > 0) await writeFile(join(overlay, layer, 'lower'), below.join(':'));
  }
}

/** Replaces times in the unpacked layer itself that came from the clock. Blocks while it walks: a thousand directories take some 20 ms. */
async function dateLayer(graphroot: string, layer: string, stampSeconds: number): Promise<void> {
  const split = await inflate(await readFile(join(graphroot, 'overlay-layers', `${layer}.tar-split.gz`)));
  const members = membersOf(split.toString('utf8'));
  const top = Buffer.from(`${join(graphroot, 'overlay', layer, 'diff')}/`).toString('latin1');
  const walk = (below: string): void => {
    const directory = bytesOf(`${top}${below}`);
    for (const entry of readdirSync(directory, { withFileTypes: true, encoding: 'buffer' })) {
      const path = `${below === '' ? '' : `${below}/`}${entry.name.toString('latin1')}`;
      if (entry.isDirectory()) walk(path);
      else if (entry.isCharacterDevice() && lstatSync(bytesOf(`${top}${path}`)).rdev === 0) date(bytesOf(`${top}${path}`), stampSeconds);
    }
    if (!members.has(below)) date(directory, stampSeconds);
  };
  walk('');
  await utimes(join(graphroot, 'overlay', layer), stampSeconds, stampSeconds);
}

/** Sets the times of a directory and everything in it, except for trees that are left out. */
function dateTree(directory: string, stampSeconds: number, isLeftOut: (path: string) => boolean): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (isLeftOut(path)) continue;
    if (entry.isDirectory()) dateTree(path, stampSeconds, isLeftOut);
    else date(path, stampSeconds);
  }
  date(directory, stampSeconds);
}

/** Sets the times of a symbolic link itself, not of its target. */
function date(path: string | Buffer, stampSeconds: number): void {
  lutimesSync(path, stampSeconds, stampSeconds);
}

/** The bytes of a path in which each character stands for one byte. */
function bytesOf(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}
