import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { hexOf } from '../../model/digest.ts';
import type { NamedImage } from './source-image.ts';

/** The program of the component docker-registry from OpenShift 4.21 on; older ones cannot serve a tree. Source: field facts, "Registry image". */
const PROGRAM = 'usr/bin/distribution';

const layersSchema = v.array(v.looseObject({ id: v.string(), parent: v.optional(v.string(), '') }));
const imagesSchema = v.array(v.looseObject({ id: v.string(), layer: v.optional(v.string(), '') }));

/** The first image of a store that carries distribution; undefined where none does. */
export async function findRegistryImage(graphroot: string, images: readonly NamedImage[]): Promise<NamedImage | undefined> {
  const layers = v.parse(layersSchema, JSON.parse(await readFile(join(graphroot, 'overlay-layers/layers.json'), 'utf8')));
  const records = v.parse(imagesSchema, JSON.parse(await readFile(join(graphroot, 'overlay-images/images.json'), 'utf8')));
  const carrying = new Set<string>();
  for (const { id } of layers) {
    const isThere = await lstat(join(graphroot, 'overlay', id, 'diff', PROGRAM)).then(
      (found) => found.isFile(),
      () => false,
    );
    if (isThere) carrying.add(id);
  }
  const parents = new Map(layers.map(({ id, parent }) => [id, parent]));
  const tops = new Map(records.map(({ id, layer }) => [id, layer]));
  return images.find(({ image }) => {
    for (let id = tops.get(hexOf(image.config)) ?? ''; id !== ''; id = parents.get(id) ?? '') if (carrying.has(id)) return true;
    return false;
  });
}
