import type { FileSystemSpace } from '../host/space.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import type { Stage } from '../model/stage.ts';
import type { LoadStep } from './plan.ts';

/** What the machine has. Sizes are bytes. */
export interface Resources {
  readonly cores: number;
  readonly memoryBytes: number;
  readonly storage: FileSystemSpace;
  readonly scratch: FileSystemSpace;
}

/** What a run needs. Sizes are bytes. */
export interface Needs {
  /** Images that are worked on at one time, at least 1. */
  readonly parallel: number;
  /** Growth of containers-storage. */
  readonly storageBytes: number;
  /** Most bytes of blobs in scratch at one time: of images that are being copied, and of those unpacked ahead. */
  readonly aheadBytes: number;
  /** Most bytes in scratch at one time: these blobs, and skopeo's own copies of those that it copies. */
  readonly scratchBytes: number;
}

/**
 * How much a compressed layer grows when it is unpacked. An archive does not say; a release grows from 16 to 32 GiB, sets of small
 * programs more.
 */
const GROWTH = 2.5;

/**
 * Room for unpacking ahead, over that of the biggest image: with none, nothing is unpacked while the image that brings the shared layers is
 * copied, and a core is idle.
 */
const AHEAD = 0.5;

/** Memory for one image that is being loaded: a thread of the agent and one skopeo (measured: 60 MB and 110 MB at the most). */
const MEMORY_PER_IMAGE = 192 * 1024 * 1024;

/** More images at a time than this gain nothing: the lock of containers-storage is held while a layer is unpacked. */
const PARALLEL_LIMIT = 8;

/** kubelet removes images when their file system is fuller than this (imageGCHighThresholdPercent). */
const KUBELET_MARK = 0.85;

/**
 * What the loads need on this machine. Pure.
 * Measured on 2 cores with the bench set: two images at a time are the fastest, a third only waits for skopeo's lock.
 */
export function computeNeeds(loads: readonly LoadStep[], resources: Pick<Resources, 'cores' | 'memoryBytes'>, wanted?: number): Needs {
  const byMemory = Math.floor(resources.memoryBytes / MEMORY_PER_IMAGE);
  const chosen = wanted ?? Math.min(resources.cores, byMemory, PARALLEL_LIMIT);
  const biggest = Math.max(0, ...loads.map((step) => step.writeBytes));
  return {
    parallel: Math.max(1, Math.min(chosen, Math.max(1, loads.length))),
    storageBytes: Math.ceil(loads.reduce((sum, step) => sum + step.writeBytes * (step.image.growth ?? GROWTH), 0)),
    aheadBytes: Math.ceil(biggest * (1 + AHEAD)),
    // skopeo copies each blob into a temporary file before it is unpacked.
    scratchBytes: Math.ceil(biggest * (2 + AHEAD)),
  };
}

/** Compares needs and resources; every shortage is one error with both figures. Pure. */
export function findShortages(needs: Needs, resources: Resources, stage: Stage): readonly PrestageError[] {
  const { storage, scratch } = resources;
  const isShared = storage.id === scratch.id;
  const onStorage = needs.storageBytes + (isShared ? needs.scratchBytes : 0);
  const inMemory = (storage.inMemory ? needs.storageBytes : 0) + (scratch.inMemory ? needs.scratchBytes : 0);
  const shortages: PrestageError[] = [];
  if (onStorage > storage.freeBytes) {
    shortages.push(
      new PrestageError(
        'ERR_SPACE_STORAGE',
        `${storage.path} needs ${formatBytes(onStorage)} (estimated), but has only ${formatBytes(storage.freeBytes)} free`,
        'Free space there, give --graphroot on a larger file system, or shorten the image list of the stage',
      ),
    );
  }
  if (!isShared && needs.scratchBytes > scratch.freeBytes) {
    shortages.push(
      new PrestageError(
        'ERR_SPACE_SCRATCH',
        `scratch ${scratch.path} needs ${formatBytes(needs.scratchBytes)}, but has only ${formatBytes(scratch.freeBytes)} free`,
        'Give --scratch on a larger file system',
      ),
    );
  }
  if (inMemory > 0 && inMemory > resources.memoryBytes) {
    shortages.push(
      new PrestageError(
        'ERR_SPACE_MEMORY',
        `${storage.inMemory ? storage.path : scratch.path} is in memory and needs ${formatBytes(inMemory)} (estimated), but only ${formatBytes(resources.memoryBytes)} of memory is free`,
        'Give the machine more memory, or shorten the image list of the stage',
      ),
    );
  }
  const usedAfter = storage.sizeBytes - storage.freeBytes + needs.storageBytes;
  if (stage === 'installed' && needs.storageBytes > 0 && usedAfter > storage.sizeBytes * KUBELET_MARK && onStorage <= storage.freeBytes) {
    shortages.push(
      new PrestageError(
        'ERR_SPACE_KUBELET',
        `${storage.path} would be ${Math.round((usedAfter / storage.sizeBytes) * 100)} % full (${formatBytes(usedAfter)} of ${formatBytes(storage.sizeBytes)}); kubelet removes images above ${KUBELET_MARK * 100} %`,
        'Give the root disk more room, or shorten the image list of the stage',
      ),
    );
  }
  return shortages;
}

/**
 * Whether a file system in memory can serve as scratch: writing there wears no disk, and it must leave three quarters of the free
 * memory to the engines. Pure.
 */
export function fitsInMemory(candidate: FileSystemSpace, needBytes: number, memoryBytes: number): boolean {
  return candidate.inMemory && candidate.freeBytes >= needBytes && memoryBytes >= needBytes * 4;
}
