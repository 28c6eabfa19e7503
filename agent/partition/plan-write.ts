import type { Bundle, BundleFile } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';

/** What lies on a partition that a bundle is to be written to. */
export interface PartitionSurvey {
  /** A bundle is there that was not written to its end. */
  readonly isPartial: boolean;
  /** The manifest that is there has the bytes of the new one. */
  readonly isSameManifest: boolean;
  /** Release of the bundle that is there; undefined where there is none that can be read. */
  readonly release: string | undefined;
  /** Files that earlier bundles brought, with their sizes: those of the manifest, and of the note that an unfinished write leaves. */
  readonly earlier: readonly { readonly path: string; readonly sizeBytes: number }[];
  /** Paths of the new bundle that are there with the right bytes. */
  readonly sound: ReadonlySet<string>;
  /** Sizes of what is there under paths of the new bundle with other bytes. */
  readonly unsound: ReadonlyMap<string, number>;
  /** Half-written files of a write that was ended, with their sizes. */
  readonly leftovers: ReadonlyMap<string, number>;
  readonly freeBytes: number;
  readonly sizeBytes: number;
}

export interface WritePlan {
  readonly copy: readonly BundleFile[];
  readonly keep: readonly BundleFile[];
  /** Files with other bytes, and half-written ones, that go before anything is copied. */
  readonly replace: readonly string[];
  /** Files of earlier bundles that the new one does not have; they go when the new one is whole, or first where the person says so. */
  readonly obsolete: readonly string[];
  readonly isPruneFirst: boolean;
  readonly copyBytes: number;
  /** Nothing is to be done: the bundle is there. */
  readonly isDone: boolean;
  /** Files that are whole and belong to something else are given up for this bundle: a person has to agree. */
  readonly isReplacing: boolean;
  /** Release of the bundle that is given up; undefined where it is none, or is not known. */
  readonly replacesRelease: string | undefined;
}

/** Blocks of XFS and ext4 as mkfs makes them. */
const BLOCK_BYTES = 4096;
/** Inode and directory entry of a file, generously. */
const PER_FILE_BYTES = 1024;
const RESERVE_BYTES = 4 * 1024 * 1024;

/**
 * Decides which files of a bundle have to be copied to a partition. Pure.
 * @throws PrestageError ERR_SPACE_PARTITION
 */
export function planWrite(
  bundle: Bundle,
  survey: PartitionSurvey,
  options: { readonly isPruneFirst: boolean; readonly where: string },
): WritePlan {
  const copy = bundle.files.filter((file) => !survey.sound.has(file.path));
  const wanted = new Set(bundle.files.map((file) => file.path));
  const obsolete = survey.earlier.filter((file) => !wanted.has(file.path));
  const freed = [
    ...survey.unsound.values(),
    ...survey.leftovers.values(),
    ...(options.isPruneFirst ? obsolete.map((file) => file.sizeBytes) : []),
  ];
  checkSpace(copy, survey, { freedBytes: sum(freed), obsoleteBytes: sum(obsolete.map((file) => file.sizeBytes)), ...options });
  const isOther = !survey.isPartial && !survey.isSameManifest;
  const isDone = copy.length === 0 && obsolete.length === 0 && survey.isSameManifest && !survey.isPartial;
  return {
    copy,
    keep: bundle.files.filter((file) => survey.sound.has(file.path)),
    replace: [...survey.leftovers.keys(), ...survey.unsound.keys()],
    obsolete: obsolete.map((file) => file.path),
    isPruneFirst: options.isPruneFirst,
    copyBytes: sum(copy.map((file) => file.sizeBytes)),
    isDone,
    isReplacing: isOther && (survey.release !== undefined || survey.unsound.size > 0 || obsolete.length > 0),
    replacesRelease: isOther ? survey.release : undefined,
  };
}

function checkSpace(
  copy: readonly BundleFile[],
  survey: PartitionSurvey,
  { freedBytes, obsoleteBytes, isPruneFirst, where }: { freedBytes: number; obsoleteBytes: number; isPruneFirst: boolean; where: string },
): void {
  const neededBytes = contentBytes(copy) + RESERVE_BYTES;
  const freeBytes = survey.freeBytes + freedBytes;
  if (copy.length === 0 || neededBytes <= freeBytes) return;
  const helps = !isPruneFirst && obsoleteBytes > 0 && neededBytes <= freeBytes + obsoleteBytes;
  throw new PrestageError(
    'ERR_SPACE_PARTITION',
    `${where} (${formatBytes(survey.sizeBytes)}) has ${formatBytes(freeBytes)} for ${formatBytes(neededBytes)} that are to be copied`,
    helps
      ? `Give --prune-first: ${formatBytes(obsoleteBytes)} of the earlier bundle then go before the new one comes`
      : 'Make a larger partition: prestage-agent partition create DEVICE --replace --size SIZE',
  );
}

/** What files take on a file system. */
export function contentBytes(files: readonly BundleFile[]): number {
  return sum(files.map((file) => Math.ceil(file.sizeBytes / BLOCK_BYTES) * BLOCK_BYTES + PER_FILE_BYTES));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
