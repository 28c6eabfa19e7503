import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type KnownImage, planSteps } from '../../agent/load/plan.ts';
import { digestOf, hexOf } from '../../agent/model/digest.ts';
import { cached } from '../support/cache.ts';
import { blobPath, type MadeLayer, makeLayer } from '../support/image-layer.ts';
import { makers } from '../support/image-set.ts';
import { type MadeImage, makeImage, writeOciLayout } from '../support/images.ts';
import { fastest } from './inside.ts';
import { type Measurement, measure } from './measure.ts';
import type { PartFindings } from './report.ts';
import { makeWorkplace } from './workplace.ts';

const PLANNED = 10_000;
const STORED = 2000;
const ROUNDS = 3;

/** What the number of images costs: the plan of 10,000 of which storage has none, and a run over 2,000 that are all there. */
export async function benchSize(): Promise<PartFindings> {
  const planSeconds = Math.min(...Array.from({ length: ROUNDS }, planOnce));
  const present = await runOverPresent();
  return {
    rows: [[`a run over ${STORED} images that are there`, present]],
    bars: [
      { what: `plan of ${PLANNED} images, of which none is there`, got: planSeconds, wanted: 1, kind: 'most', unit: 's' },
      { what: `a run over ${STORED} images that are there`, got: present.wallSeconds, wanted: 3, kind: 'most', unit: 's' },
    ],
  };
}

/** Images of ten layers, as those of a release: one base for all, one for every fiftieth, eight of their own. */
function planOnce(): number {
  const layer = (name: string) => ({ digest: digestOf(name), sizeBytes: 1000, mediaType: '' });
  const images = Array.from({ length: PLANNED }, (_, index): KnownImage => {
    const own = Array.from({ length: 8 }, (_each, nth) => layer(`${index}-${nth}`));
    const reference = `quay.io/example/image@${digestOf(String(index))}`;
    const layers = [layer('base'), layer(`base-${index % 50}`), ...own];
    return { reference, names: [reference], digests: [digestOf(String(index))], layers, archiveBytes: index, growth: 2 };
  });
  const startMs = performance.now();
  planSteps({ images, refused: [], storage: { images: [], layers: new Set() }, suspect: new Set() });
  return (performance.now() - startMs) / 1000;
}

async function runOverPresent(): Promise<Measurement> {
  const fixture = await cached({ name: 'bench-present', makers: [...(await makers()), import.meta.filename] }, async (work) => {
    const base = await makeLayer(work, [{ kind: 'file', path: 'etc/base', content: 'base\n' }]);
    const images: MadeImage[] = [];
    for (let index = 0; index < STORED; index++) {
      const own = await makeLayer(work, [{ kind: 'file', path: 'etc/prestage-image', content: `${index}\n` }]);
      images.push(await makeImage(work, { name: 'quay.io/example/image', format: 'oci', layers: [base, own] }));
    }
    await writeOciLayout(work, images, join(work, 'layout'));
    await writeFile(join(work, 'images.json'), JSON.stringify(images));
  });
  const images: readonly MadeImage[] = JSON.parse(await readFile(join(fixture, 'images.json'), 'utf8'));
  await using place = await makeWorkplace();
  await writeStorage(place.graphroot, join(fixture, 'layout'), images);
  const all: Measurement[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const found = await measure(place.agent(join(fixture, 'layout')));
    if (found.exitCode !== 0) throw new Error(`the run ended with ${found.exitCode}:\n${found.stderr.slice(-2000)}`);
    all.push(found);
  }
  return fastest(all);
}

/**
 * Images as containers-storage has them, as far as the agent looks: to load 2,000 by skopeo takes half an hour.
 * Source: github.com/containers/storage, images.go, layers.go, drivers/overlay/overlay.go.
 */
async function writeStorage(graphroot: string, layout: string, images: readonly MadeImage[]): Promise<void> {
  const layers = new Map<string, object>();
  const addLayer = async (layer: MadeLayer, parent: string | undefined): Promise<string> => {
    const id = parent === undefined ? hexOf(layer.diffId) : hexOf(digestOf(`sha256:${parent} ${layer.diffId}`));
    if (layers.has(id)) return id;
    layers.set(id, { id, parent, 'compressed-diff-digest': layer.digest, 'diff-digest': layer.diffId });
    await mkdir(join(graphroot, 'overlay', id, 'diff'), { recursive: true });
    for (const name of ['link', 'lower']) await writeFile(join(graphroot, 'overlay', id, name), `l/${id.slice(0, 26)}`);
    await writeFile(join(graphroot, 'overlay-layers', `${id}.tar-split.gz`), 'not looked into');
    return id;
  };
  for (const what of ['images', 'layers']) await mkdir(join(graphroot, `overlay-${what}`), { recursive: true });
  const records: object[] = [];
  for (const { reference, digest, manifest, instances } of images) {
    const [instance] = instances;
    if (instance === undefined) throw new Error(`${reference} has no instance`);
    let layer: string | undefined;
    for (const one of instance.layers) layer = await addLayer(one, layer);
    const id = hexOf(instance.config.digest);
    const names = ['manifest', `manifest-${manifest.digest}`];
    records.push({ id, digest, names: [reference], layer, 'big-data-digests': Object.fromEntries(names.map((name) => [name, digest])) });
    await mkdir(join(graphroot, 'overlay-images', id));
    await writeFile(join(graphroot, 'overlay-images', id, 'manifest'), await readFile(blobPath(layout, digest)));
  }
  await writeFile(join(graphroot, 'overlay-images/images.json'), JSON.stringify(records));
  await writeFile(join(graphroot, 'overlay-layers/layers.json'), JSON.stringify([...layers.values()]));
}
