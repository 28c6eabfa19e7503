import type { Bundle, BundleFile } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';

/** Content of a partition that a bundle is to be written to. */
export interface PartitionSurvey {
  /** The partition holds an incompletely written bundle. */
  readonly isPartial: boolean;
  /** The manifest on the partition equals the new one. */
  readonly isSameManifest: boolean;
  /** Release of the bundle on the partition; undefined if there is no readable bundle. */
  readonly release: string | undefined;
  /** Files of earlier bundles with their sizes: those listed in the manifest and in the note that an unfinished write leaves. */
  readonly earlier: readonly { readonly path: string; readonly sizeBytes: number }[];
  /** Paths of the new bundle that already have the right content. */
  readonly sound: ReadonlySet<string>;
  /** Sizes of existing files at paths of the new bundle that have other content. */
  readonly unsound: ReadonlyMap<string, number>;
  /** Incomplete files of an interrupted write, with their sizes. */
  readonly leftovers: ReadonlyMap<string, number>;
  readonly freeBytes: number;
  readonly sizeBytes: number;
}

export interface WritePlan {
  readonly copy: readonly BundleFile[];
  readonly keep: readonly BundleFile[];
  /** Files with other content, and incomplete ones, which are removed before anything is copied. */
  readonly replace: readonly string[];
  /** Files of earlier bundles that the new one does not have. Removed once the new one is complete, or first with `isPruneFirst`. */
  readonly obsolete: readonly string[];
  readonly isPruneFirst: boolean;
  readonly copyBytes: number;
  /** Nothing to do: the bundle is already on the partition. */
  readonly isDone: boolean;
  /** Intact files of something else are replaced by this bundle: a person has to agree. */
  readonly isReplacing: boolean;
  /** Release of the bundle that is replaced; undefined if there is none, or if it is unknown. */
  readonly replacesRelease: string | undefined;
}

/** Block size that mkfs uses for XFS and ext4. */
const BLOCK_BYTES = 4096;
/** Inode and directory entry of a file; a generous estimate. */
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
    `${where} (${formatBytes(survey.sizeBytes)}) has ${formatBytes(freeBytes)} free, but ${formatBytes(neededBytes)} are to be copied`,
    helps
      ? `Use --prune-first: it first removes ${formatBytes(obsoleteBytes)} of the earlier bundle`
      : 'Create a larger partition: prestage-agent partition create DEVICE --replace --size SIZE',
  );
}

/** Bytes that files take up on a file system. */
export function contentBytes(files: readonly BundleFile[]): number {
  return sum(files.map((file) => Math.ceil(file.sizeBytes / BLOCK_BYTES) * BLOCK_BYTES + PER_FILE_BYTES));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, value) => total + value, 0);
}
