import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchivePool } from '../extract/pool.ts';
import type { Act } from '../host/acts.ts';
import { quote } from '../host/exec.ts';
import { type Host, hostPath } from '../host/host.ts';
import { makePrivateDirectory } from '../host/private-directory.ts';
import { memoryBytes, spaceAt } from '../host/space.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { DISK_COPY_PATH, RAM_PATH } from '../model/places.ts';
import type { Placement } from '../model/store.ts';
import { bindData } from './bind-data.ts';
import { copyHashTree, copyImage } from './copy-image.ts';
import { tmpfsMountArgs } from './mount-argv.ts';
import { PIECE_THREADS, passPieces } from './pieces.ts';
import { checkRoom, memoryReserveBytes } from './placement.ts';
import { checkDigest, innerPath, openImage, type StoreImage } from './store-image.ts';

export interface PlaceRequest {
  readonly image: StoreImage;
  /** The opened bundle, mounted read-only if it is a partition. */
  readonly bundleDirectory: string;
  readonly placement: Placement;
  /** What a copy in memory must leave free; from the memory of the machine if left out. */
  readonly memoryReserveBytes?: number | undefined;
  /** The hash tree must be placed, too. */
  readonly withHashTree: boolean;
  /** The bytes must be hashed before the image is used. */
  readonly mustHash: boolean;
  readonly pool: ArchivePool;
  readonly act: Act;
  readonly signal: AbortSignal;
  readonly onProgress: (bytes: number) => void;
}

/** A store image where it can stay for as long as it is mounted. */
export interface PlacedImage {
  readonly path: string;
  /** Undefined if none was requested. */
  readonly hashTree: string | undefined;
  readonly isHashed: boolean;
}

/**
 * Brings a store image to its place.
 * @throws PrestageError ERR_STORE_DIGEST, ERR_BUNDLE_FILE, ERR_SPACE_MEMORY, ERR_SPACE_STORE, ERR_STORE_MOUNT; the signal's reason
 */
export async function placeImage(host: Host, request: PlaceRequest): Promise<PlacedImage> {
  // A thread needs 40 ms to start, as long as the mount that precedes the copy.
  if (request.image.pieces !== undefined && (request.placement === 'ram' || request.mustHash)) request.pool.start(PIECE_THREADS);
  switch (request.placement) {
    case 'ram':
      return await placeInMemory(host, request);
    case 'partition':
      return await placeOnPartition(host, request);
    case 'disk':
      return await placeOnDisk(host, request);
  }
}

async function placeOnPartition(host: Host, request: PlaceRequest): Promise<PlacedImage> {
  const { image, bundleDirectory, act } = request;
  const inner = await innerPath(bundleDirectory, image.path);
  await checkSize(image);
  const data = await bindData(host, bundleDirectory, act);
  const path = join(data, inner);
  if (request.mustHash) await hashImage(request, image, path);
  const hashTree = request.withHashTree ? join(data, await innerPath(bundleDirectory, image.hashTree)) : undefined;
  return { path, hashTree, isHashed: request.mustHash };
}

/** Keeps nothing of the partition open afterwards. */
async function placeInMemory(host: Host, request: PlaceRequest): Promise<PlacedImage> {
  const { act } = request;
  await checkSource(request);
  const neededBytes = bytesOf(request);
  const memory = await memoryBytes();
  const reserveBytes = request.memoryReserveBytes ?? memoryReserveBytes(memory.total);
  checkRoom('ram', { neededBytes, availableMemoryBytes: memory.available, reserveBytes, freeDiskBytes: 0 });
  const directory = hostPath(host, RAM_PATH);
  await act('mount-ram', async () => {
    await makePrivateDirectory(directory);
    const mounted = await host.exec('mount', tmpfsMountArgs(neededBytes, directory));
    if (mounted.exitCode !== 0) {
      throw new PrestageError(
        'ERR_STORE_MOUNT',
        `no tmpfs can be mounted at ${directory}: ${quote(mounted.stderr)}`,
        `Run by hand to see why: mount ${tmpfsMountArgs(neededBytes, directory).join(' ')}; or give --placement partition`,
      );
    }
  });
  const [path, tree] = [join(directory, 'store.squashfs'), join(directory, 'store.verity')];
  await act('copy-store', async () => await copyBoth(request, path, tree));
  return { path, hashTree: request.withHashTree ? tree : undefined, isHashed: true };
}

/** Once there is a copy, the partition is no longer needed. */
async function placeOnDisk(host: Host, request: PlaceRequest): Promise<PlacedImage> {
  const { image, act, withHashTree } = request;
  const { image: path, hashTree: tree } = diskCopyOf(host, image.sha256);
  const placed = { path, hashTree: withHashTree ? tree : undefined };
  if (await isCopied(request, path, tree)) {
    if (!request.mustHash) return { ...placed, isHashed: false };
    const fault = await copyFault(request, path);
    if (fault === undefined) return { ...placed, isHashed: true };
    host.log('warning', `${fault}; the image is copied again`);
  }
  await checkSource(request);
  const directory = hostPath(host, DISK_COPY_PATH);
  await act('copy-store', async () => {
    await rm(path, { force: true });
    await makePrivateDirectory(directory);
    const { freeBytes } = await spaceAt(directory);
    checkRoom('disk', { neededBytes: bytesOf(request), availableMemoryBytes: 0, reserveBytes: 0, freeDiskBytes: freeBytes });
    await copyBoth(request, path, tree);
  });
  return { ...placed, isHashed: true };
}

/** Where the copies of a store image lie on the root disk. */
export function diskCopyOf(host: Pick<Host, 'root'>, sha256: string): { readonly image: string; readonly hashTree: string } {
  const top = join(hostPath(host, DISK_COPY_PATH), sha256);
  return { image: `${top}.squashfs`, hashTree: `${top}.verity` };
}

/** Copies the hash tree first, so that once the image has its name, everything is there. */
async function copyBoth(request: PlaceRequest, path: string, tree: string): Promise<void> {
  const { image, pool, signal, onProgress, placement } = request;
  const isDurable = placement === 'disk';
  if (request.withHashTree) await copyHashTree({ image, to: tree, isDurable, signal });
  await copyImage({ image, to: path, isDurable, pool, signal, onProgress });
}

async function isCopied({ image, withHashTree }: PlaceRequest, path: string, tree: string): Promise<boolean> {
  const [copy, treeCopy] = await Promise.all([path, tree].map((one) => stat(one).catch(() => undefined)));
  return copy?.isFile() === true && copy.size === image.sizeBytes && (!withHashTree || treeCopy?.isFile() === true);
}

/** Why a copy on the disk does not match the image; undefined if it does. */
async function copyFault(request: PlaceRequest, path: string): Promise<string | undefined> {
  try {
    await hashImage(request, { ...request.image, path }, path);
    return undefined;
  } catch (error) {
    if (error instanceof PrestageError && ['ERR_STORE_DIGEST', 'ERR_BUNDLE_FILE'].includes(error.code)) return messageOf(error);
    throw error;
  }
}

/**
 * Hashes the file that has the bytes of an image: by its pieces if they are known, in all threads.
 * @throws PrestageError ERR_STORE_DIGEST, ERR_BUNDLE_FILE; the signal's reason
 */
export async function hashImage(
  { pool, signal, onProgress }: Pick<PlaceRequest, 'pool' | 'signal' | 'onProgress'>,
  image: StoreImage,
  from: string,
): Promise<void> {
  const { pieces } = image;
  if (pieces === undefined) checkDigest(image, (await pool.hash({ path: from }, { signal, onProgress })).sha256);
  else await passPieces({ image, pieces, from, pool, signal, onProgress });
}

async function checkSource({ image, bundleDirectory, withHashTree }: PlaceRequest): Promise<void> {
  await Promise.all([image.path, ...(withHashTree ? [image.hashTree] : [])].map((path) => innerPath(bundleDirectory, path)));
  await checkSize(image);
}

async function checkSize(image: StoreImage): Promise<void> {
  await (await openImage(image)).close();
}

function bytesOf({ image, withHashTree }: PlaceRequest): number {
  return image.sizeBytes + (withHashTree ? image.hashTreeSizeBytes : 0);
}
