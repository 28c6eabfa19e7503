import { createHash } from 'node:crypto';
import * as v from 'valibot';

/**
 * What containers-storage writes at random or from the clock, made a function of what it stores. Pure.
 * Source: github.com/containers/storage, layers.go, images.go, drivers/overlay/overlay.go (generateID, link, lower).
 */

/** Length of a short link name; overlay's mount options have room for about 500 of them. */
const LINK_LENGTH = 26;
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

const records = v.array(v.looseObject({ id: v.string() }));
const layerRecords = v.array(v.looseObject({ id: v.string(), parent: v.optional(v.string(), '') }));

/** The short name of a layer's directory, which overlay's mount options use: random in a store, here made of the layer's id. */
export function linkNameOf(layerId: string): string {
  const bytes = createHash('sha256').update(`link ${layerId}`).digest();
  return Array.from(bytes.subarray(0, LINK_LENGTH), (byte) => BASE32[byte % BASE32.length]).join('');
}

/**
 * layers.json: no layer before its parent, else by id; all made at the given time.
 * @param createdAt RFC 3339
 */
export function normalLayers(text: string, createdAt: string): string {
  const layers = v.parse(layerRecords, JSON.parse(text));
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

/**
 * images.json: by id. Its times are those of the images' configs; an image whose config has none gets the given time.
 * @param undated ids of the images without a time of their own
 * @param createdAt RFC 3339
 */
export function normalImages(text: string, undated: ReadonlySet<string>, createdAt: string): string {
  const images = v.parse(records, JSON.parse(text)).map((image) => ({ ...image, ...(undated.has(image.id) && { created: createdAt }) }));
  return `${JSON.stringify(images.toSorted((a, b) => (a.id < b.id ? -1 : 1)))}\n`;
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
