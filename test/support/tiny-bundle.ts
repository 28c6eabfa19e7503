import { createHash } from 'node:crypto';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { type ArchiveFolder, archiveName, writeArchives } from './image-archives.ts';
import { type LayerEntry, type MadeLayer, makeLayer } from './image-layer.ts';
import { type MadeImage, makeImage } from './images.ts';

/** Images of some KB over one base layer, as a folder of archives for the discovery stage. They are real images, but nothing runs in them. */
export interface TinyBundle {
  /** Where the blobs lie. */
  readonly store: string;
  /** The folder with `ai-images.txt`, `mapping.txt` and the archives. */
  readonly directory: string;
  readonly base: MadeLayer;
  readonly images: readonly MadeImage[];
  /** The name that mapping.txt gives to the second image. */
  readonly mappedName: string;
}

const COMPONENT = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
const MAPPED_TAG = '4.14.0-tool';

/** Makes a bundle below a directory: the first image has a tag, the others are listed by digest. */
export async function makeTinyBundle(work: string, count = 3): Promise<TinyBundle> {
  const store = join(work, 'store');
  const directory = join(work, 'bundle');
  await mkdir(store, { recursive: true });
  const base = await makeLayer(store, [{ kind: 'directory', path: 'etc' }, noise('base', 64)]);
  const images: MadeImage[] = [];
  for (let index = 0; index < count; index++) images.push(await tinyImage(store, base, index));
  const [, mapped] = images;
  const mapping = mapped === undefined ? [] : [`${mapped.reference}=registry.example.com:5000/ocp4/openshift4:${MAPPED_TAG}`];
  await writeArchives(store, directory, { lists: { 'ai-images.txt': images }, mapping });
  return { store, directory, base, images, mappedName: `${COMPONENT}:${MAPPED_TAG}` };
}

/** The image of a number: over the base, with a layer of its own that grows with the number. Number 0 has a tag. */
export async function tinyImage(store: string, base: MadeLayer, index: number): Promise<MadeImage> {
  const own = await makeLayer(store, [noise(`own-${index}`, 8 + index)]);
  return index === 0
    ? await makeImage(store, { name: 'quay.io/example/tool', tag: 'latest', format: 'oci', layers: [base, own] })
    : await makeImage(store, { name: COMPONENT, format: 'docker', layers: [base, own] });
}

/** A folder with other lists over archives that lie in the bundle's store. */
export async function writeFolder(bundle: TinyBundle, directory: string, folder: ArchiveFolder): Promise<string> {
  await writeArchives(bundle.store, directory, folder);
  return directory;
}

/** A copy of the bundle's folder that a test may change. */
export async function copyFolder(bundle: TinyBundle, directory: string): Promise<string> {
  await cp(bundle.directory, directory, { recursive: true, preserveTimestamps: true });
  return directory;
}

export function archivePath(directory: string, reference: string): string {
  return join(directory, `${archiveName(reference)}.tgz`);
}

/** Packs the archive again after a change of its unpacked layout, as a valid gzip and tar. */
export async function repack(directory: string, reference: string, change: (layout: string) => Promise<void>): Promise<void> {
  const name = archiveName(reference);
  const path = archivePath(directory, reference);
  const work = join(directory, '.repack');
  await mkdir(work);
  await output(execOnLinux, 'tar', ['xzf', path, '-C', work]);
  await change(join(work, name));
  await output(execOnLinux, 'tar', ['czf', path, '-C', work, name]);
  await output(execOnLinux, 'rm', ['-r', work]);
}

/** Bytes that do not compress and are the same each time. */
function noise(name: string, kib: number): LayerEntry {
  const lines = Array.from({ length: kib * 16 }, (_, index) => createHash('sha256').update(`${name}-${index}`).digest('hex'));
  return { kind: 'file', path: `etc/${name}`, content: lines.join('') };
}
