import { lstatSync, lutimesSync, readdirSync, symlinkSync } from 'node:fs';
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { LOCK_FILES, tokenOf } from '../../extract/lock-token.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { linkNameOf, membersOf, normalImages, normalLayers } from './store-records.ts';

export interface NormaliseOptions {
  /** Seconds since 1970 for all that containers-storage dates by the clock. */
  readonly stampSeconds: number;
  /** Ids of the images whose config has no time. */
  readonly undated: ReadonlySet<string>;
}

/** What a storage consists of; podman and newer libraries put more beside it, which a read-only store does not need. */
const PARTS = ['overlay', 'overlay-containers', 'overlay-images', 'overlay-layers', 'storage.lock', 'userns.lock'] as const;
const LAYER_ID = /^[0-9a-f]{64}$/;

const inflate = promisify(gunzip);

/**
 * Makes a containers-storage that nobody uses a function of its images alone: link names, times, order of records, lock files. What images
 * bring themselves stays as it is: contents, owners, modes, extended attributes, and the times of all members of their layers.
 *
 * A directory that no layer has as a member (containers-storage makes it on the way to one) and a whiteout get the given time.
 */
export async function normaliseStore(graphroot: string, options: NormaliseOptions): Promise<void> {
  const createdAt = new Date(options.stampSeconds * 1000).toISOString().replace('.000Z', 'Z');
  await removeForeign(graphroot);
  const layerRecords = await rewrite(join(graphroot, 'overlay-layers/layers.json'), (text) => normalLayers(text, createdAt));
  const imageRecords = await rewrite(join(graphroot, 'overlay-images/images.json'), (text) =>
    normalImages(text, options.undated, createdAt),
  );
  // The records name everything in the store by its digest.
  for (const lock of LOCK_FILES) await writeFile(join(graphroot, lock), tokenOf(layerRecords, imageRecords));
  const layers = (await readdir(join(graphroot, 'overlay'))).filter((name) => LAYER_ID.test(name)).toSorted();
  await renameLinks(graphroot, layers);
  for (const layer of layers) await dateLayer(graphroot, layer, options.stampSeconds);
  dateTree(graphroot, options.stampSeconds, (path) => path.endsWith('/diff'));
}

async function removeForeign(graphroot: string): Promise<void> {
  const kept = new Set<string>(PARTS);
  for (const name of await readdir(graphroot)) {
    if (!kept.has(name)) await removeTree(join(graphroot, name));
  }
}

async function rewrite(path: string, change: (text: string) => string): Promise<string> {
  const changed = change(await readFile(path, 'utf8'));
  await writeFile(path, changed, { mode: 0o600 });
  return changed;
}

/** `link` holds a layer's own short name, `lower` the names of the layers below it, and `overlay/l` leads from names to layers. */
async function renameLinks(graphroot: string, layers: readonly string[]): Promise<void> {
  const overlay = join(graphroot, 'overlay');
  const names = new Map<string, string>();
  for (const layer of layers) names.set(await readFile(join(overlay, layer, 'link'), 'utf8'), linkNameOf(layer));
  await removeTree(join(overlay, 'l'));
  await mkdir(join(overlay, 'l'), { mode: 0o700 });
  for (const layer of layers) {
    await writeFile(join(overlay, layer, 'link'), linkNameOf(layer));
    symlinkSync(`../${layer}/diff`, join(overlay, 'l', linkNameOf(layer)));
    const lower = await readFile(join(overlay, layer, 'lower'), 'utf8').catch(() => undefined);
    if (lower === undefined) continue;
    const renamed = lower.split(':').map((part) => `l/${names.get(part.replace(/^l\//, '')) ?? part.replace(/^l\//, '')}`);
    await writeFile(join(overlay, layer, 'lower'), renamed.join(':'));
  }
}

/** Dates what the clock has dated in the unpacked layer itself. Blocks while it walks: a thousand directories take some 20 ms. */
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

/** Dates a directory with all that is in it, but for the trees that are left out. */
function dateTree(directory: string, stampSeconds: number, isLeftOut: (path: string) => boolean): void {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (isLeftOut(path)) continue;
    if (entry.isDirectory()) dateTree(path, stampSeconds, isLeftOut);
    else date(path, stampSeconds);
  }
  date(directory, stampSeconds);
}

/** A symbolic link itself, not what it leads to. */
function date(path: string | Buffer, stampSeconds: number): void {
  lutimesSync(path, stampSeconds, stampSeconds);
}

/** A path of which each character stands for one byte. */
function bytesOf(path: string): Buffer {
  return Buffer.from(path, 'latin1');
}
