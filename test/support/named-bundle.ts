import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeLayer } from './image-layer.ts';
import { makeImage, writeOciLayout } from './images.ts';
import { seal } from './sealed-bundle.ts';

/** Sets a name in a manifest to a value. */
export type Change = (manifest: Manifest, value: string) => void;

/** What is changed of a manifest. */
export interface Manifest {
  readonly stages: { readonly installed: { readonly images: { reference: string; readonly names: string[] }[] } };
  readonly payloads: { kind: string; path?: string; image?: string; mirror?: string; registryImage?: string }[];
  readonly files: { path?: string }[];
}

/** Names of a manifest that come to engines, into units and into configuration. */
export const names: Readonly<Record<string, Change>> = {
  'the reference of an image': ({ stages }, value) => {
    for (const image of stages.installed.images) image.reference = value;
  },
  'a name of an image': ({ stages }, value) => {
    for (const image of stages.installed.images) image.names.push(value);
  },
  'the image of the registry of a store': inPayload('store', 'registryImage'),
  'the image of a registry': inPayload('registry', 'registryImage'),
};
export function inPayload(kind: string, key: 'path' | 'image' | 'mirror' | 'registryImage'): Change {
  return ({ payloads }, value) => {
    for (const payload of payloads) if (payload.kind === kind) payload[key] = value;
  };
}

/** A sealed bundle of one image with a payload of each kind that has names, in a directory that is made. */
export interface NamedBundle {
  readonly directory: string;
  /** Writes its manifest with one name set to the value. */
  rename(change: Change, value: string): Promise<void>;
}

export async function makeNamedBundle(work: string): Promise<NamedBundle> {
  const directory = join(work, 'bundle');
  const store = join(work, 'blobs');
  await mkdir(store);
  const layer = await makeLayer(store, [{ kind: 'file', path: 'etc/name', content: 'name' }]);
  const image = await makeImage(store, { name: 'quay.io/example/tool', tag: 'v1', format: 'oci', layers: [layer] });
  for (const folder of ['oci', 'store', 'mirror', 'registry']) await mkdir(join(directory, folder), { recursive: true });
  await writeOciLayout(store, [image], join(directory, 'oci'));
  for (const file of ['store/image', 'store/tree', 'mirror/file', 'registry/file']) await writeFile(join(directory, file), file);
  const verity = { hashTree: 'store/tree', rootHash: 'a'.repeat(64) };
  const registryImage = image.reference;
  await seal({
    directory,
    stage: 'installed',
    images: [image],
    payloads: [
      { kind: 'oci', path: 'oci' },
      { kind: 'store', stage: 'installed', image: 'store/image', verity, mirror: 'mirror', registryImage },
      { kind: 'registry', path: 'registry', registryImage },
    ],
  });
  const file = join(directory, 'prestage.json');
  const manifest = await readFile(file, 'utf8');
  return {
    directory,
    rename: async (change, value) => {
      const document: Manifest = JSON.parse(manifest);
      change(document, value);
      await writeFile(file, JSON.stringify(document));
    },
  };
}
