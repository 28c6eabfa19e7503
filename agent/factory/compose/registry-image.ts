import { createReadStream } from 'node:fs';
import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract } from 'tar-stream';
import * as v from 'valibot';
import { layoutBlobPath } from '../../extract/oci-layout.ts';
import { type Digest, hexOf } from '../../model/digest.ts';
import { readReference } from '../../model/reference.ts';
import type { NamedImage } from './source-image.ts';
import { inflaterOf } from './unpacked-sizes.ts';

/** The program of the component docker-registry from OpenShift 4.21 on; older ones cannot serve a tree. Source: docs/field-facts.md, "Registry image". */
const PROGRAM = 'usr/bin/distribution';

const layersSchema = v.array(v.looseObject({ id: v.string(), parent: v.optional(v.string(), '') }));
const imagesSchema = v.array(v.looseObject({ id: v.string(), layer: v.optional(v.string(), '') }));

/** The first image of a store that contains distribution; undefined if none does. */
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

/** Labels that describe an image. Sources: OCI image-spec, annotations.md; the labels of Red Hat's images. */
const TELLING_LABELS = [
  'name',
  'com.redhat.component',
  'io.k8s.display-name',
  'io.openshift.build.source-location',
  'org.opencontainers.image.source',
  'org.opencontainers.image.title',
];

/**
 * The first image of a layout that contains distribution; undefined if none is found. Layers have to be inflated for that, so only images whose
 * name or labels mention a registry are examined.
 */
export async function findRegistryInLayout(
  layout: string,
  images: readonly NamedImage[],
  signal: AbortSignal,
): Promise<NamedImage | undefined> {
  const seen = new Map<Digest, boolean>();
  for (const image of images.filter(speaksOfRegistry)) {
    for (const { digest } of image.image.layers.toReversed()) {
      const isCarrying = seen.get(digest) ?? (await hasProgram(layoutBlobPath(layout, digest), signal));
      seen.set(digest, isCarrying);
      if (isCarrying) return image;
    }
  }
  return undefined;
}

/** By its repository, not by its host: many hosts are called registry. */
function speaksOfRegistry({ names, image }: NamedImage): boolean {
  const repositories = names.map((name) => readReference(name)).map((read) => (typeof read === 'string' ? '' : read.repository));
  return [...repositories, ...TELLING_LABELS.map((label) => image.labels[label] ?? '')].some((text) => /registry|distribution/i.test(text));
}

/** Whether a layer has the program. A layer that cannot be read counts as without it: its bytes are checked elsewhere. */
async function hasProgram(path: string, signal: AbortSignal): Promise<boolean> {
  const found = new AbortController();
  const entries = extract();
  entries.on('entry', (header, content, next) => {
    // If the archive is cut off, its current entry fails with it.
    content.on('error', () => undefined);
    content.resume().once('end', next);
    if (header.type === 'file' && header.name.replace(/^(?:\.?\/)+/, '') === PROGRAM) found.abort();
  });
  const inflate = await inflaterOf(path);
  const ends = { signal: AbortSignal.any([signal, found.signal]) };
  const reading = createReadStream(path, { highWaterMark: 1024 * 1024 });
  await (inflate === undefined ? pipeline(reading, entries, ends) : pipeline(reading, inflate, entries, ends)).catch(() => undefined);
  signal.throwIfAborted();
  return found.signal.aborted;
}
