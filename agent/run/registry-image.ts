import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as v from 'valibot';
import { linkDirLayout } from '../extract/oci-layout.ts';
import { writeAtomic } from '../host/atomic.ts';
import type { Exec } from '../host/exec.ts';
import { hostPath } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { syncFileSystem } from '../host/sync.ts';
import type { RunContext } from '../load/context.ts';
import type { Digest } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { REGISTRY_IMAGE_PATH, WRITERS_LOCK } from '../model/places.ts';
import { treeBlobPath } from '../model/registry-path.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';
import { createLoader } from '../storage/loader.ts';
import { readImages, type StorageLocation } from '../storage/records.ts';
import { endRegistry } from './mirrors.ts';
import type { Serving } from './serve.ts';

/** The image that a registry is to run from. */
export interface WantedImage {
  /** Full reference. */
  readonly name: string;
  /** Digest of its manifest in the tree; undefined if the tree does not have it. */
  readonly digest: Digest | undefined;
  /** The directory that holds `docker`. */
  readonly tree: string;
}

const recordSchema = v.object({ version: v.literal(1), name: v.string(), digest: v.string() });

/**
 * Puts the image that a registry runs from where podman finds it: it is loaded from the tree into a storage of its own. In the node's storage, an
 * engine that restarts after a power cut would remove it, kubelet would collect it as garbage, and the container of podman would hinder both. An image
 * that the tree does not have may be in the node's storage.
 * @throws PrestageError ERR_REGISTRY_IMAGE, ERR_LOAD, ERR_LAYOUT, ERR_LAYOUT_BLOB
 */
export async function bringRegistryImage(
  { name, digest, tree }: WantedImage,
  location: StorageLocation,
  context: RunContext,
): Promise<Pick<Serving, 'image' | 'imageStore'>> {
  const { host, act } = context;
  if (digest === undefined) {
    if ((await readImages(location)).some((stored) => stored.names.includes(name))) return { image: name };
    throw notThere(name);
  }
  const top = hostPath(host, REGISTRY_IMAGE_PATH);
  const serving = { image: name, imageStore: join(top, 'store') };
  const record = v.safeParse(recordSchema, unsealRecord(await readFile(join(top, 'image.json'), 'utf8').catch(() => '')));
  if (record.success && record.output.name === name && record.output.digest === digest) return serving;
  // Otherwise the registry would keep running from files that are removed now.
  await endRegistry(context);
  await act('load-registry-image', async () => await load({ name, digest, tree }, top, context));
  return serving;
}

/** Everything is synced before the record is written; without a record the image is loaded again. */
async function load({ name, digest, tree }: WantedImage & { readonly digest: Digest }, top: string, context: RunContext): Promise<void> {
  const { host, kill } = context;
  await removeTree(top);
  const work = join(top, 'work');
  const places = { temporary: join(work, 'tmp'), cache: join(work, 'cache'), image: join(work, 'image') };
  for (const path of [places.temporary, places.cache]) await mkdir(path, { recursive: true, mode: 0o700 });
  await linkDirLayout(tree, digest, places.image, (root, blob) => join(root, treeBlobPath(blob)));
  const loader = createLoader({
    exec: alone(host.exec, places.cache),
    location: { graphroot: join(top, 'store'), runroot: join(work, 'run') },
    temporaryDirectory: places.temporary,
    writersLock: hostPath(host, WRITERS_LOCK),
    signal: kill,
  });
  await loader.load(`dir:${places.image}`, name);
  await removeTree(work);
  await syncFileSystem(host.exec, top);
  await writeAtomic(join(top, 'image.json'), sealRecord({ version: 1, name, digest }));
  await syncFileSystem(host.exec, dirname(top));
}

/**
 * Runs programs in a mount namespace of their own, because the overlay driver mounts a storage on itself and leaves that mount behind. They also get
 * a blob cache of their own, because the node's cache describes the node's storage. The script is constant.
 */
function alone(exec: Exec, cache: string): Exec {
  const script = 'mkdir -p /var/lib/containers/cache && mount --bind "$0" /var/lib/containers/cache && exec "$@"';
  return async (file, args, options) =>
    await exec('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script, cache, file, ...args], options);
}

function notThere(image: string): PrestageError {
  return new PrestageError(
    'ERR_REGISTRY_IMAGE',
    `the registry image ${image} is neither in the bundle nor in the storage of this node`,
    'Add that image to the bundle, or set registry-image to an image that is in one of them',
  );
}
