import { createHash } from 'node:crypto';
import * as v from 'valibot';

/**
 * Values that containers-storage chooses at random or takes from the clock, derived from the content of the storage instead. Pure.
 * Source: github.com/containers/storage, layers.go, images.go, drivers/overlay/overlay.go (generateID, link, lower).
 */

/**
 * Letters of a link name: 48 bits of a hash. An engine with containers-storage before 1.44 names each layer of an additional store by its full path in
 * the 4,096 bytes of overlay's mount options, so names are short (layer-limits.ts). They are still hashes, not numbers: a container keeps the names of
 * its layers and looks for them in every store, also in one that has replaced another.
 */
export const LINK_LENGTH = 8;
/** Of containers-storage's own names, and of those in stores of earlier builds. */
const LONG_LINK_LENGTH = 26;
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

const records = v.array(v.looseObject({ id: v.string(), layer: v.optional(v.string()), 'names-history': v.optional(v.unknown()) }));
const layerRecords = v.array(v.looseObject({ id: v.string(), parent: v.optional(v.string(), '') }));

/** The name of a layer in a store of an earlier build; containers that were made on that store use it. */
export function longLinkNameOf(layerId: string): string {
  const bytes = createHash('sha256').update(`link ${layerId}`).digest();
  return Array.from(bytes.subarray(0, LONG_LINK_LENGTH), (byte) => BASE32[byte % BASE32.length]).join('');
}

/**
 * The short names of layers' directories, which overlay's mount options use: random in a storage, here derived from the layers' ids. They are long
 * enough to tell the layers of this storage apart.
 */
export function linkNamesOf(layerIds: readonly string[], least = LINK_LENGTH): ReadonlyMap<string, string> {
  const whole = new Map(layerIds.map((id) => [id, createHash('sha256').update(`link ${id}`).digest('base64url')]));
  let length = least;
  while (new Set([...whole.values()].map((name) => name.slice(0, length))).size < whole.size) length++;
  return new Map([...whole].map(([id, name]) => [id, name.slice(0, length)]));
}

/**
 * layers.json of the given layers: no layer before its parent, else by id; all with the given creation time.
 * @param createdAt RFC 3339
 */
export function normalLayers(text: string, kept: ReadonlySet<string>, createdAt: string): string {
  const layers = v.parse(layerRecords, JSON.parse(text)).filter(({ id }) => kept.has(id));
  const byId = new Map(layers.map((layer) => [layer.id, layer]));
  const depthOf = (id: string): number => {
    let depth = 0;
    for (let at = byId.get(id); at !== undefined && depth <= layers.length; at = byId.get(at.parent)) depth++;
    return depth;
  };
  const ordered = layers
    .map((layer) => ({ layer, depth: depthOf(layer.id) }))
    .toSorted((a, b) => a.depth - b.depth || (a.layer.id < b.layer.id ? -1 : 1));
  return `${JSON.stringify(ordered.map(({ layer: { parent, ...layer } }) => ({ ...layer, ...(parent !== '' && { parent }), created: createdAt })))}\n`;
}

/** One image of a store. */
export interface StoredImage {
  readonly names: readonly string[];
  /** The image's config has no time. */
  readonly isUndated: boolean;
}

/**
 * images.json of the given images: by id, with exactly these names. Its times are those of the images' configs; an image whose config has none gets
 * the given time.
 * @param images by id
 * @param createdAt RFC 3339
 */
export function normalImages(text: string, images: ReadonlyMap<string, StoredImage>, createdAt: string): string {
  const kept = v.parse(records, JSON.parse(text)).flatMap((record) => {
    const image = images.get(record.id);
    if (image === undefined) return [];
    const names = [...image.names];
    const history = record['names-history'] === undefined ? {} : { 'names-history': names };
    return [{ ...record, names, ...history, ...(image.isUndated && { created: createdAt }) }];
  });
  return `${JSON.stringify(kept.toSorted((a, b) => (a.id < b.id ? -1 : 1)))}\n`;
}

/** The layer below each; empty for the lowest. */
export function parentsOf(layersText: string): ReadonlyMap<string, string> {
  return new Map(v.parse(layerRecords, JSON.parse(layersText)).map(({ id, parent }) => [id, parent]));
}

/** The layers below one, the nearest first. */
export function chainBelow(parents: ReadonlyMap<string, string>, layer: string): readonly string[] {
  const found = new Set<string>();
  let at = parents.get(layer);
  while (at !== undefined && parents.has(at) && !found.has(at)) {
    found.add(at);
    at = parents.get(at);
  }
  return [...found];
}

/** Ids of the layers that images consist of, with all those below. */
export function layersBelow(layersText: string, imagesText: string, images: ReadonlyMap<string, StoredImage>): ReadonlySet<string> {
  const parents = parentsOf(layersText);
  const found = new Set<string>();
  for (const { id, layer } of v.parse(records, JSON.parse(imagesText))) {
    if (!images.has(id) || layer === undefined || !parents.has(layer)) continue;
    for (const one of [layer, ...chainBelow(parents, layer)]) found.add(one);
  }
  return found;
}

const tarSplitEntry = v.object({ type: v.number(), name: v.optional(v.string(), ''), name_raw: v.optional(v.string()) });
/** Type of the entries that stand for a member; the others hold bytes of the tar. Source: github.com/vbatts/tar-split, tar/storage/entry.go. */
const FILE_ENTRY = 1;

/**
 * Paths of the members of a layer, without `/` or `./` at their start and `/` at their end; the layer's top is the empty path. Each character
 * stands for one byte (latin1), as a name need not be UTF-8.
 * @param tarSplit the inflated text of a layer's `.tar-split.gz`
 */
export function membersOf(tarSplit: string): ReadonlySet<string> {
  const names = tarSplit
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => v.parse(tarSplitEntry, JSON.parse(line)))
    .filter((entry) => entry.type === FILE_ENTRY)
    .map(({ name, name_raw: raw }) => Buffer.from(raw ?? name, raw === undefined ? 'utf8' : 'base64').toString('latin1'));
  return new Set(names.map(normalPath));
}

/** As Go's filepath.Clean below `/`, by which containers-storage finds the place of a member. */
function normalPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return parts.join('/');
}
