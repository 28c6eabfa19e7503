import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { runStateOf } from '../../agent/model/run-state.ts';
import { unsealRecord } from '../../agent/model/seal.ts';
import { LIVE_STATE } from '../../agent/state/run-record.ts';
import { type NodeSandbox, openSandbox } from '../support/sandbox.ts';
import { type BenchBundle, bigImages, bundleOf, manyImages } from './bench-bundles.ts';
import type { BenchSet } from './bench-images.ts';
import { bestOf, measureInside } from './inside.ts';
import type { Measurement } from './measure.ts';
import type { Bar, PartFindings } from './report.ts';
import { EXECUTABLE } from './workplace.ts';

/** All images are visible when the run has ended, and one is pulled by digest, by an engine that is told of the store. */
const USABLE = `
agent=$1 bundle=$2 placement=$3 trust=$4 reference=$5
"$agent" run --stage installed --bundle "$bundle" --placement "$placement" --trust "$trust"
CONTAINERS_STORAGE_CONF=/run/prestage-agent/storage.conf podman pull --quiet "$reference"`;

/**
 * Mounts the store image of a bundle on a node of its own and uses it: with 24 images of 2 GB, and with 240 small ones. Then the same image
 * hashed before it is mounted, against sha256sum(1), and copied into memory, against cp(1).
 */
export async function benchMount(set: BenchSet): Promise<PartFindings> {
  const [bundle, many] = [await bundleOf(set), await manyImages(240)];
  const image = await storeImageOf(bundle);
  const mounted = await bestOf(async (node) => await usable(node, bundle, 'partition', 'background'));
  const mountedMany = await bestOf(async (node) => await usable(node, many, 'partition', 'background'));
  const hashed = await bestOf(async (node) => await usable(node, bundle, 'partition', 'hash'));
  const summed = await bestOf(async (node) => await measureInside(node, ['sha256sum', image]));
  const ram = await bestOf(async (node) => await usable(node, bundle, 'ram', 'auto'));
  const copied = await bestOf(async (node) => await copyToMemory(node, image));
  const extraBytes = Math.max(0, (await memoryTaken(bundle)) - (await stat(image)).size);
  const more = (found: Measurement): number => Math.max(found.wallSeconds - mounted.wallSeconds, 0.001);
  return {
    usableSeconds: mounted.wallSeconds,
    rows: [
      ['mount, 24 images', mounted],
      ['mount, 240 images', mountedMany],
      ['mount, hashed before', hashed],
      ['sha256sum of the store', summed],
      ['mount from memory', ram],
      ['cp of the store to tmpfs', copied],
    ],
    bars: [
      bar('mount: start of the executable to all images visible and one pulled', mounted.wallSeconds, 0.8, 'most', 's'),
      bar('mount: 240 images, of the time for 24', mountedMany.wallSeconds / mounted.wallSeconds, 1.3, 'most', 'times'),
      bar('mount: rate of the hash pass, of sha256sum', summed.wallSeconds / more(hashed), 0.8, 'least', 'times'),
      bar('mount from memory: what it takes more, of cp to tmpfs', more(ram) / copied.wallSeconds, 1.3, 'most', 'times'),
      bar('mount from memory: memory taken beside the store image', extraBytes, 64 * 2 ** 20, 'most', 'bytes'),
    ],
  };
}

/** What a mount costs with a number of images that no release has, and from memory with the bytes of a release. */
export async function benchMountSize(): Promise<PartFindings> {
  const [few, many, big] = [await manyImages(24), await manyImages(2000), await bigImages()];
  const image = await storeImageOf(big);
  const mounted = await bestOf(async (node) => await usable(node, few, 'partition', 'background'));
  const mountedMany = await bestOf(async (node) => await usable(node, many, 'partition', 'background'));
  const mountedBig = await bestOf(async (node) => await usable(node, big, 'partition', 'background'));
  let placedSeconds = Number.POSITIVE_INFINITY;
  const ram = await bestOf(async (node) => {
    const found = await usable(node, big, 'ram', 'auto');
    placedSeconds = Math.min(placedSeconds, await secondsOfPlacement(node));
    return found;
  });
  const copied = await bestOf(async (node) => await copyToMemory(node, image));
  return {
    rows: [
      ['mount, 24 small images', mounted],
      ['mount, 2000 images', mountedMany],
      ['mount, 190 images of 7 MiB', mountedBig],
      ['mount from memory, the same', ram],
      ['cp of the store to tmpfs', copied],
    ],
    bars: [
      bar('mount: 2000 images, of the time for 24', mountedMany.wallSeconds / mounted.wallSeconds, 2.5, 'most', 'times'),
      bar('placement of 1.3 GB in memory, hashed, of cp to tmpfs', placedSeconds / copied.wallSeconds, 1.3, 'most', 'times'),
    ],
  };
}

/** How long the last run on a node copied its store image, by its record. */
async function secondsOfPlacement(node: NodeSandbox): Promise<number> {
  const state = runStateOf(unsealRecord(await readFile(node.path(LIVE_STATE), 'utf8')));
  const act = state?.timeline?.steps.find(({ name }) => name === 'copy-store');
  if (act === undefined) throw new Error('the record of the run has no time of the copy');
  return (act.endMs - act.startMs) / 1000;
}

function bar(what: string, got: number, wanted: number, kind: Bar['kind'], unit: Bar['unit']): Bar {
  return { what, got, wanted, kind, unit };
}

async function storeImageOf({ directory }: BenchBundle): Promise<string> {
  const store = join(directory, 'store');
  const name = (await readdir(store)).find((file) => file.endsWith('.squashfs'));
  if (name === undefined) throw new Error(`${store} has no store image`);
  return join(store, name);
}

async function copyToMemory(node: NodeSandbox, image: string): Promise<Measurement> {
  await node.output('mount', ['-t', 'tmpfs', '-o', 'size=90%', 'tmpfs', '/var/tmp']);
  return await measureInside(node, ['cp', image, '/var/tmp/store.squashfs']);
}

/** That the images are visible is looked at afterwards: to list 240 of them takes podman half a second, whatever they lie in. */
async function usable(node: NodeSandbox, { directory, images }: BenchBundle, placement: string, trust: string): Promise<Measurement> {
  const reference = images[0]?.reference ?? '';
  const found = await measureInside(node, ['sh', '-e', '-c', USABLE, 'sh', EXECUTABLE, directory, placement, trust, reference]);
  const env = { CONTAINERS_STORAGE_CONF: '/run/prestage-agent/storage.conf' };
  const listed = new Set((await node.output('podman', ['images', '--quiet', '--no-trunc'], { env })).trim().split('\n'));
  if (listed.size >= images.length) return found;
  throw new Error(`podman lists ${listed.size} of the ${images.length} images`);
}

/** Memory that is no longer there when the store is open in memory: for the image, the metadata tree, the registry and all else. */
async function memoryTaken(bundle: BenchBundle): Promise<number> {
  await using node = await openSandbox();
  const before = await availableBytes();
  await usable(node, bundle, 'ram', 'auto');
  return Math.max(0, before - (await availableBytes()));
}

/** Source: proc_meminfo(5), MemAvailable; what the page cache holds counts as available. */
async function availableBytes(): Promise<number> {
  const meminfo = await readFile('/proc/meminfo', 'utf8');
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(meminfo)?.[1]) * 1024;
}
