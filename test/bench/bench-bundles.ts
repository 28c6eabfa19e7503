import { link, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { listOf, runBuild } from '../support/build.ts';
import { cached } from '../support/cache.ts';
import { runnableRoot } from '../support/image-files.ts';
import { makeLayer } from '../support/image-layer.ts';
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

/** 240 images over one base, each with a layer of a few bytes: what an image more costs. */
export async function manyImages(): Promise<BenchBundle> {
  const directory = await cached({ name: 'bench-many', makers: await bundleMakers() }, async (work) => {
    const base = await makeLayer(work, await runnableRoot(['sh']));
    const images: MadeImage[] = [];
    for (let index = 0; index < 240; index++) {
      const own = await makeLayer(work, [{ kind: 'file', path: 'etc/prestage-image', content: `${index}\n` }]);
      images.push(await makeImage(work, { name: COMPONENT, format: 'docker', layers: [base, own] }));
    }
    const registry = await makeRegistryImage(work);
    const pulled = join(work, 'pulled');
    await mkdir(pulled);
    await writeOciLayout(work, [...images, registry], pulled);
    await writeFile(join(pulled, 'ocp-images.txt'), listOf([...images, registry]));
    await runBuild({ from: pulled, to: join(work, 'bundle'), payloads: ['store'], jobs: availableParallelism() });
    await writeFile(join(work, 'images.json'), JSON.stringify(images));
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
