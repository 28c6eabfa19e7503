import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeLayer } from '../image-layer.ts';
import { type MadeImage, makeImage, makeIndex } from '../images.ts';
import { startRegistry } from '../registry.ts';
import { tinyImage } from '../tiny-bundle.ts';
import { contentOf, openFactoryPlace } from './places.ts';
import type { CrashScenario } from './points.ts';

const TO = 'pulled';

/** Images from a real registry on loopback: by tag, by digest, and the list of two platforms. */
function pulling(format: 'oci' | 'archives', steps: CrashScenario['steps']): CrashScenario {
  return {
    name: `pull --format ${format}`,
    steps,
    prepare: async () => {
      const stack = new AsyncDisposableStack();
      const work = await mkdtemp(join(tmpdir(), 'pull-from-'));
      stack.defer(async () => await rm(work, { recursive: true, force: true }));
      const registry = stack.use(await startRegistry({ near: work }));
      const references = await registry.add(work, await someImages(work));
      return {
        open: async () =>
          await openFactoryPlace(async (place) => {
            const list = join(place, 'ocp-images.txt');
            await writeFile(list, references.map((reference) => `${reference}\n`).join(''));
            const to = join(place, TO);
            const how = ['--no-tls-verify', '--parallel', '2'];
            return { args: ['pull', '--list', list, '--to', to, '--format', format, ...how], end: async () => await contentOf(to) };
          }),
        [Symbol.asyncDispose]: async () => await stack.disposeAsync(),
      };
    },
  };
}

async function someImages(store: string): Promise<readonly MadeImage[]> {
  const base = await makeLayer(store, [{ kind: 'file', path: 'etc/base', content: 'base' }]);
  const arm = await makeLayer(store, [{ kind: 'file', path: 'etc/arm', content: 'arm' }]);
  const spec = { name: 'quay.io/example/list', format: 'oci' } as const;
  const instances = [
    await makeImage(store, { ...spec, layers: [base] }),
    await makeImage(store, { ...spec, architecture: 'arm64', layers: [arm] }),
  ];
  return [await tinyImage(store, base, 0), await tinyImage(store, base, 1), await makeIndex(store, { ...spec, instances })];
}

const shared = ['start-pull', 'place-blob', 'end-pull', 'remove-staging'] as const;

export const pullScenarios: readonly CrashScenario[] = [
  pulling('oci', [...shared, 'place-manifest', 'write-index', 'write-lists']),
  pulling('archives', [...shared, 'write-archive', 'write-lists']),
];
