import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import type { Stage } from '../model/stage.ts';
import type { Placement, PlacementChoice } from '../model/store.ts';

export interface ChosenPlacement {
  readonly kind: Placement;
  readonly reason: string;
}

export interface PlacementFacts {
  readonly stage: Stage;
  /** The bundle lies on a medium that nothing is installed to, such as virtual media. */
  readonly isMedium: boolean;
}

/**
 * The possible placements, best first; the next one is used if there is no room. In discovery the disk of the partition must be free for the
 * installation, and the root disk is in memory itself. Pure.
 */
export function choosePlacements(
  wanted: PlacementChoice,
  { stage, isMedium }: PlacementFacts,
): readonly [ChosenPlacement, ...ChosenPlacement[]] {
  if (wanted !== 'auto') return [{ kind: wanted, reason: 'it was requested' }];
  if (stage === 'installed') return [{ kind: 'partition', reason: 'the partition stays available, and nothing has to be copied' }];
  const onMedium = { kind: 'partition', reason: 'nothing is installed to the medium of the bundle' } as const;
  return [{ kind: 'ram', reason: 'the disk of the partition must be free for the installation' }, ...(isMedium ? [onMedium] : [])];
}

/** Least and most memory that is kept free by default. */
const LEAST_RESERVE_BYTES = 256 * 1024 * 1024;
const MOST_RESERVE_BYTES = 2 * 1024 * 1024 * 1024;
/** Share of the memory that is kept free between the two. */
const RESERVE_SHARE = 1 / 8;

/**
 * Memory that must stay free beside a store image in memory. A discovery continues after the run: the assisted agent, the installer and podman run,
 * containers write to /var, which is in memory too, and a program that finds no memory is killed. A whole discovery could not be measured: an eighth of
 * the machine is 2 GiB of the 16 GiB that OpenShift requires for a control plane node, and 1 GiB of the 8 GiB for a worker. Pure.
 * @param totalBytes MemTotal of proc_meminfo(5)
 */
export function memoryReserveBytes(totalBytes: number): number {
  return Math.min(MOST_RESERVE_BYTES, Math.max(LEAST_RESERVE_BYTES, Math.floor(totalBytes * RESERVE_SHARE)));
}

/** What a placement takes and what there is. Sizes are bytes. */
export interface RoomFacts {
  /** Of the files that would be copied. */
  readonly neededBytes: number;
  /** MemAvailable of proc_meminfo(5). */
  readonly availableMemoryBytes: number;
  /** What of that must stay free. */
  readonly reserveBytes: number;
  /** On the file system of the copies. */
  readonly freeDiskBytes: number;
}

/**
 * Refuses a placement for which there is no room. Pure.
 * @throws PrestageError ERR_SPACE_MEMORY, ERR_SPACE_STORE
 */
export function checkRoom(placement: Placement, facts: RoomFacts): void {
  const { neededBytes, availableMemoryBytes, reserveBytes, freeDiskBytes } = facts;
  if (placement === 'ram' && availableMemoryBytes < neededBytes + reserveBytes) {
    throw new PrestageError(
      'ERR_SPACE_MEMORY',
      `the store image needs ${formatBytes(neededBytes)} of memory and ${formatBytes(reserveBytes)} must stay free, but only ${formatBytes(availableMemoryBytes)} is available`,
      'Give the machine more memory, or a smaller --memory-reserve, or --placement partition if nothing is installed to the disk of the partition',
    );
  }
  if (placement === 'disk' && freeDiskBytes < neededBytes) {
    throw new PrestageError(
      'ERR_SPACE_STORE',
      `the copy of the store image needs ${formatBytes(neededBytes)}, but the disk has only ${formatBytes(freeDiskBytes)} free`,
      'Free space below /var/lib/prestage-agent, or give --placement partition',
    );
  }
}
