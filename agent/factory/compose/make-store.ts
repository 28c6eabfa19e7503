import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ActName } from '../../host/acts.ts';
import type { Host } from '../../host/host.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { compressionText } from '../../model/bundle.ts';
import { formatDuration } from '../../model/bytes.ts';
import { hexOf } from '../../model/digest.ts';
import { writeTree } from '../../tree/tree-files.ts';
import { lateFiles } from './late-files.ts';
import { type Made, type MakeContext, servedTree } from './make-context.ts';
import { isOperatingSystem } from './os-images.ts';
import { type Part, STORE_PART_IDS } from './plan.ts';
import { findRegistryImage } from './registry-image.ts';
import { type NamedImage, unionOf } from './source-image.ts';
import { composeStore } from './store-copy.ts';
import { normaliseStore, readStorage, type UnpackedStorage } from './store-normalise.ts';
import { formatVerity, packSquashfs } from './store-pack.ts';
import { proveStore, reclaimProof } from './store-proof.ts';
import type { StoredImage } from './store-records.ts';
import { sizesOfStore } from './unpacked-sizes.ts';

/** Folder of a store's proof in its work directory. */
const PROOF = 'proof';
/** Folder of the storage that stores are packed from, in the work directory of the build. */
const UNPACKED = 'unpacked';

/** Unmounts what an interrupted build has left mounted in its work directory. */
export async function reclaimWork(host: Host, work: string): Promise<void> {
  for (const id of STORE_PART_IDS) await reclaimProof(host, join(work, id, PROOF));
}

/** Unpacks the images of stores, each once. First removes what an interrupted build has left there. */
export async function unpackImages(parts: readonly Part[], context: MakeContext): Promise<UnpackedStorage> {
  const { host, facts, jobs, signal, say } = context;
  const name = parts.map(({ id }) => id).join(' and ');
  const images = unionOf(parts.map((part) => part.images));
  const { graphroot } = await timed(context, 'compose-store', `${name}: ${images.length} images unpacked`, () =>
    composeStore(host, {
      ...{ layout: context.layout, images, architecture: facts.architecture, work: join(context.work, UNPACKED), jobs, signal },
      onCopied: (done, of) => say(`${name}: ${done}/${of} images unpacked`),
    }),
  );
  return await readStorage(graphroot);
}

export async function removeUnpacked({ act, work }: MakeContext): Promise<void> {
  await act('remove-store-work', async () => await removeTree(join(work, UNPACKED)));
}

/** Packs one store from a storage that has its images, and proves it. */
export async function makeStore(part: Part, storage: UnpackedStorage, context: MakeContext): Promise<Made> {
  const { host, facts, act, signal, say } = context;
  const { architecture } = facts;
  const work = join(context.work, part.id);
  const [image = '', hashTree = '', mirror = '', osTree] = part.paths.map((path) => join(context.bundle, path));
  await mkdir(join(image, '..'), { recursive: true });
  const unpackedBytes = sizesOfStore(storage.records.layers);
  const found = facts.registryImage ?? (await findRegistryImage(storage.graphroot, part.images));
  await packStore(part, storage, { ...context, image });
  const rootHash = await timed(context, 'make-hash-tree', `${part.id}: hash tree made`, () =>
    formatVerity(host, { image, hashTree, seed: part.key, signal }),
  );
  const proof = await timed(context, 'prove-store', `${part.id}: proven with podman`, () =>
    proveStore(host, { image, images: part.images, architecture, work: join(work, PROOF), signal }),
  );
  await act('remove-store-work', async () => await removeTree(work));
  if (proof.ranIn !== undefined) say(`${part.id}: a command ran in ${proof.ranIn}`);
  if (proof.notMounted !== undefined) host.log('warning', `${part.id}: ${proof.notMounted}`);
  if (proof.notRun !== undefined) host.log('warning', `${part.id}: no command was run in any image: ${proof.notRun}`);
  const mirrored = part.images.filter((one) => !isOperatingSystem(one));
  await act('write-tree', async () => await writeTree(servedTree(mirrored, 'metadata'), { layout: context.layout, to: mirror }));
  if (osTree !== undefined) {
    await act('write-tree', async () => await writeTree(servedTree(part.served ?? [], 'all'), { layout: context.layout, to: osTree }));
  }
  if (found === undefined) {
    host.log('warning', `${part.id}: no image contains a registry, so the node needs one of its own; name one with --registry-image`);
  }
  return { rootHash, unpackedBytes, ...(found && { registryImage: found.names[0] ?? found.reference }) };
}

async function packStore(part: Part, storage: UnpackedStorage, context: MakeContext & { readonly image: string }): Promise<void> {
  const { host, facts, image, jobs, signal, say } = context;
  const { stampSeconds, compression } = facts;
  const without = await timed(context, 'normalise-store', `${part.id}: made reproducible`, () =>
    normaliseStore(storage, { stampSeconds, images: storedImages(part.images) }),
  );
  const late = await lateFiles(host, storage.graphroot, without, signal);
  if (late !== undefined) host.log('warning', `${part.id}: ${late}`);
  await timed(context, 'pack-store', `${part.id}: packed as squashfs with ${compressionText(compression)}`, () =>
    packSquashfs(host, {
      ...{ graphroot: storage.graphroot, without, image, compression, stampSeconds, jobs, signal },
      onTenth: (percent) => say(`${part.id}: ${percent} % packed`),
    }),
  );
}

/** Images as the records of a store should describe them, by id: several entries can lead to one image. */
function storedImages(images: readonly NamedImage[]): ReadonlyMap<string, StoredImage> {
  const byConfig = Map.groupBy(images, ({ image }) => hexOf(image.config));
  return new Map(
    [...byConfig].map(([id, entries]) => {
      const names = [...new Set(entries.flatMap((entry) => entry.names))];
      return [id, { names, isUndated: entries.every(({ image }) => image.created === undefined) }];
    }),
  );
}

async function timed<T>({ host, act, say }: MakeContext, name: ActName, what: string, work: () => Promise<T>): Promise<T> {
  const startMs = host.clock.monotonicMs();
  const result = await act(name, work);
  say(`${what}, ${formatDuration(host.clock.monotonicMs() - startMs)}`);
  return result;
}
