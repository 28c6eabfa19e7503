import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { extname, join } from 'node:path';
import pLimit from 'p-limit';
import { cached, TOP } from '../support/cache.ts';
import { writeArchives } from '../support/image-archives.ts';
import { dealer, type MachineFile, machineFiles, placed, runnableRoot } from '../support/image-files.ts';
import { type LayerEntry, type MadeLayer, makeLayer } from '../support/image-layer.ts';
import { makers } from '../support/image-set.ts';
import { type MadeImage, makeImage } from '../support/images.ts';

export interface BenchSet {
  /** Where the blobs lie. */
  readonly store: string;
  /** Folder with `ocp-images.txt` and the archives. */
  readonly archives: string;
  readonly images: readonly MadeImage[];
}

const MIB = 1024 * 1024;
const COMPONENT = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';

/** Unpacked MiB of the layer that all images of the big set share. */
const BASE_MIB = 330;
/** Unpacked MiB of the layers that some images share, and how many do. */
const MIDDLES = [
  { mib: 75, images: 6 },
  { mib: 75, images: 5 },
  { mib: 75, images: 4 },
  { mib: 75, images: 3 },
];
/** Unpacked MiB of the images' own layers: many small ones and some big ones, as in a release; 1,270 in all. */
const OWN_MIB = [200, 150, 130, 110, 90, 80, 70, 60, 55, 50, 45, 40, 35, 30, 25, 20, 20, 15, 10, 10, 8, 7, 6, 4];
/** Share of a layer's bytes that are text, objects and the like, which compress 5:1; the rest are programs, 2.5:1. Gives about 4:1 in all, as images have. */
const TEXT_SHARE = 0.8;

const TEXT = /^\.(?:py|h|json|js|cjs|mjs|ts|html|xml|md|txt|yaml|map|pm|pl|vim|a|c|mo|rst|css|tcl|conf)$/;
/** These are compressed already: layers hold few of them, and they would only measure copying. */
const COMPRESSED = /^\.(?:gz|xz|zst|bz2|jar|jmod|png|jpg|zip|bc|tgz|whl|woff2?|debug|sym|node)$/;

/**
 * 24 images of about 2 GB unpacked, 0.5 GB as blobs and 2.8 GB as archives, in the shape of a release: one base for all, four layers
 * that some share, own layers from small to big. Made of this machine's files; takes some minutes and 3.5 GB of disk once.
 */
export async function bigSet(): Promise<BenchSet> {
  const directory = await cached({ name: 'bench', makers: [...(await makers()), import.meta.filename] }, makeBigSet);
  return load(directory);
}

/** 180 images over one base, each with a layer of a few bytes: what a run costs per image. */
export async function tinySet(): Promise<BenchSet> {
  const directory = await cached({ name: 'bench-tiny', makers: [...(await makers()), import.meta.filename] }, async (store) => {
    const base = await makeLayer(store, await runnableRoot(['sh']));
    const images: MadeImage[] = [];
    for (let index = 0; index < 180; index++) {
      const own = await makeLayer(store, [{ kind: 'file', path: 'etc/prestage-image', content: `${index}\n` }]);
      images.push(await makeImage(store, { name: COMPONENT, format: 'docker', layers: [base, own] }));
    }
    await save(store, images);
  });
  return load(directory);
}

async function makeBigSet(store: string): Promise<void> {
  const roots = ['/usr/bin', '/usr/sbin', '/usr/lib', '/usr/libexec', '/usr/share', join(TOP, 'node_modules')];
  const isMaterial = (file: MachineFile) => file.sizeBytes > 256 && file.sizeBytes < 48 * MIB && !COMPRESSED.test(extname(file.path));
  const files = await machineFiles(roots, isMaterial);
  const isText = (file: MachineFile) => TEXT.test(extname(file.path));
  const dealText = dealer(files.filter(isText));
  const dealPrograms = dealer(files.filter((file) => !isText(file)));
  const content = (name: string, mib: number): readonly LayerEntry[] =>
    placed([...dealText(mib * MIB * TEXT_SHARE), ...dealPrograms(mib * MIB * (1 - TEXT_SHARE))], name);

  const contents = [
    [...(await runnableRoot(['sh', 'cat'])), ...content('base', BASE_MIB)],
    ...MIDDLES.map(({ mib }, index) => content(`middle-${index}`, mib)),
    ...OWN_MIB.map((mib, index) => content(`own-${index}`, mib)),
  ];
  const limit = pLimit(availableParallelism());
  const layers = await Promise.all(contents.map((entries) => limit(() => makeLayer(store, entries))));
  const [base, ...rest] = layers;
  if (!base) throw new Error('the set has no base layer');
  const middles = MIDDLES.flatMap(({ images }, index) => Array<MadeLayer | undefined>(images).fill(rest[index]));
  const images: MadeImage[] = [];
  for (const [index, own] of rest.slice(MIDDLES.length).entries()) {
    // Spread over the images, so that not only the big ones share a middle layer.
    const middle = middles[(index * 7) % OWN_MIB.length];
    images.push(await makeImage(store, { name: COMPONENT, format: 'docker', layers: [base, ...(middle ? [middle] : []), own] }));
  }
  await save(store, images);
}

async function save(store: string, images: readonly MadeImage[]): Promise<void> {
  await mkdir(store, { recursive: true });
  await writeArchives(store, join(store, 'archives'), { lists: { 'ocp-images.txt': images } });
  await writeFile(join(store, 'images.json'), JSON.stringify(images));
}

async function load(directory: string): Promise<BenchSet> {
  const images: readonly MadeImage[] = JSON.parse(await readFile(join(directory, 'images.json'), 'utf8'));
  return { store: directory, archives: join(directory, 'archives'), images };
}
