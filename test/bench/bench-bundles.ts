import { randomBytes } from 'node:crypto';
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { listOf, runBuild } from '../support/build.ts';
import { cached } from '../support/cache.ts';
import { runnableRoot } from '../support/image-files.ts';
import { type MadeLayer, makeLayer } from '../support/image-layer.ts';
import { makers } from '../support/image-set.ts';
import { type MadeImage, makeImage, writeOciLayout } from '../support/images.ts';
import { makeRegistryImage } from '../support/registry-image.ts';
import type { BenchSet } from './bench-images.ts';

/** A sealed bundle of the installed stage, with a store image and a registry tree. */
export interface BenchBundle {
  readonly directory: string;
  /** Without the registry's own image. */
  readonly images: readonly MadeImage[];
}

const COMPONENT = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';

/** The bundle of the set; takes two minutes once. */
export async function bundleOf(set: BenchSet): Promise<BenchBundle> {
  const salt = set.images.map((image) => image.digest).join();
  const directory = await cached({ name: 'bench-bundle', makers: await bundleMakers(), salt }, async (work) => {
    const store = join(work, 'store');
    await linkBlobs(set.store, store);
    const all = [...set.images, await makeRegistryImage(store)];
    const pulled = join(work, 'pulled');
    await writeOciLayout(store, all, pulled);
    await writeFile(join(pulled, 'ocp-images.txt'), listOf(all));
    await runBuild({ from: pulled, to: join(work, 'bundle'), payloads: ['store', 'registry'], jobs: availableParallelism() });
  });
  return { directory: join(directory, 'bundle'), images: set.images };
}

/** Images over one base, each with a layer of a few bytes: what an image more costs. 2,000 take a build of half an hour the first time. */
export async function manyImages(count: number): Promise<BenchBundle> {
  const lay = async (work: string, index: number) =>
    await makeLayer(work, [{ kind: 'file', path: 'etc/prestage-image', content: `${index}\n` }]);
  return await storeBundle(`bench-many-${count}`, count, lay);
}

/** 190 images as a release has, of 7 MiB each that no compression makes smaller: a store of 1.3 GB. */
export async function bigImages(): Promise<BenchBundle> {
  const lay = async (work: string, index: number) => {
    const file = join(work, 'random');
    await writeFile(file, randomBytes(7 * 2 ** 20));
    return await makeLayer(work, [{ kind: 'copy', path: `usr/share/own-${index}`, from: file }]);
  };
  return await storeBundle('bench-big', 190, lay);
}

async function storeBundle(name: string, count: number, lay: (work: string, index: number) => Promise<MadeLayer>): Promise<BenchBundle> {
  const directory = await cached({ name, makers: await bundleMakers() }, async (work) => {
    const base = await makeLayer(work, await runnableRoot(['sh']));
    const images: MadeImage[] = [];
    for (let index = 0; index < count; index++) {
      images.push(await makeImage(work, { name: COMPONENT, format: 'docker', layers: [base, await lay(work, index)] }));
    }
    const registry = await makeRegistryImage(work);
    const pulled = join(work, 'pulled');
    await mkdir(pulled);
    await writeOciLayout(work, [...images, registry], pulled);
    await writeFile(join(pulled, 'ocp-images.txt'), listOf([...images, registry]));
    await runBuild({ from: pulled, to: join(work, 'bundle'), payloads: ['store'], jobs: availableParallelism() });
    await writeFile(join(work, 'images.json'), JSON.stringify(images));
    await rm(pulled, { recursive: true });
  });
  const images: readonly MadeImage[] = JSON.parse(await readFile(join(directory, 'images.json'), 'utf8'));
  return { directory: join(directory, 'bundle'), images };
}

async function bundleMakers(): Promise<readonly string[]> {
  return [...(await makers()), join(import.meta.dirname, '../support/registry-image.ts'), import.meta.filename];
}

/** A store of blobs with those of another one, to which more can be added. */
async function linkBlobs(from: string, to: string): Promise<void> {
  const folder = 'blobs/sha256';
  await mkdir(join(to, folder), { recursive: true });
  for (const name of await readdir(join(from, folder))) await link(join(from, folder, name), join(to, folder, name));
}
