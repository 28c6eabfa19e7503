import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listOf, storesUnavailable, writeElf } from '../build.ts';
import { writeArchives } from '../image-archives.ts';
import { makeLayer } from '../image-layer.ts';
import { writeOciLayout } from '../images.ts';
import { tinyImage } from '../tiny-bundle.ts';
import { contentOf, openFactoryPlace } from './places.ts';
import type { CrashScenario } from './points.ts';

const X86_64 = 62;

interface Building {
  readonly name: string;
  readonly steps: CrashScenario['steps'];
  readonly from: 'layout' | 'archives';
  readonly payloads: string;
  /** Payloads of a bundle that lies there before; none where left out. */
  readonly earlier?: string;
}

function building({ name, steps, from, payloads, earlier }: Building): CrashScenario {
  return {
    name,
    steps,
    ...(payloads.includes('store') && { unavailable: async () => storesUnavailable() }),
    prepare: async () => {
      const work = await mkdtemp(join(tmpdir(), 'build-from-'));
      await makeInputs(work);
      const argsTo = (to: string, kinds: string): readonly string[] => {
        const how = ['--payload', kinds, '--architecture', 'amd64', '--agent', join(work, 'agent'), '--jobs', '2'];
        return ['build', '--from', join(work, from), '--to', to, ...how];
      };
      const before = join(work, 'before');
      if (earlier !== undefined) await buildOnce(argsTo(before, earlier));
      return {
        open: async () =>
          await openFactoryPlace(async (place) => {
            const to = join(place, 'bundle');
            if (earlier !== undefined) await cp(before, to, { recursive: true, preserveTimestamps: true });
            // Records of a build have times in them.
            const end = async () => [await contentOf(to, (path) => path.startsWith('.build/')), await readdir(join(to, '.build'))];
            return { args: argsTo(to, payloads), env: { SOURCE_DATE_EPOCH: '1700000000' }, end };
          }),
        [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }),
      };
    },
  };
}

/** Two tiny images as `pull` leaves them, in both forms, and an executable as far as its header says. */
async function makeInputs(work: string): Promise<void> {
  const store = join(work, 'store');
  await mkdir(store);
  const base = await makeLayer(store, [{ kind: 'file', path: 'etc/base', content: 'base' }]);
  const images = [await tinyImage(store, base, 0), await tinyImage(store, base, 1)];
  await mkdir(join(work, 'layout'));
  await writeOciLayout(store, images, join(work, 'layout'));
  await writeFile(join(work, 'layout/ocp-images.txt'), listOf(images));
  await writeArchives(store, join(work, 'archives'), { lists: { 'ocp-images.txt': images } });
  await writeElf(join(work, 'agent'), X86_64);
}

async function buildOnce(args: readonly string[]): Promise<void> {
  await using place = await openFactoryPlace(async () => ({ args, end: async () => undefined }));
  const { exitCode, stderr } = await place.run({});
  if (exitCode !== 0) throw new Error(stderr);
}

export const buildScenarios: readonly CrashScenario[] = [
  building({
    name: 'build of all payloads but a store, over an earlier bundle',
    steps: [
      'start-build',
      'mark-bundle',
      'record-build',
      'remove-old-part',
      'write-tree',
      'place-archives',
      'copy-agent',
      'write-readme',
      'remove-stale-payload',
      'sync-bundle',
      'seal-bundle',
      'record-seal',
      'remove-build-work',
    ],
    from: 'layout',
    payloads: 'registry,archives',
    earlier: 'oci',
  }),
  building({
    name: 'build from archives',
    steps: ['import-archives', 'record-build', 'write-tree', 'seal-bundle', 'record-seal', 'remove-build-work'],
    from: 'archives',
    payloads: 'oci',
  }),
  building({
    name: 'build of a store',
    steps: ['compose-store', 'normalise-store', 'pack-store', 'make-hash-tree', 'prove-store', 'remove-store-work', 'write-tree'],
    from: 'layout',
    payloads: 'store',
  }),
];
