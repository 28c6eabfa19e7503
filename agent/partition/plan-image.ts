import { BUNDLE_FILE, type Bundle } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';
import { contentBytes } from './plan-write.ts';

export const IMAGE_FORMATS = ['disk', 'iso'] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

/** How an image is made. */
export interface ImagePlan {
  readonly format: ImageFormat;
  /** XFS is made through a loop device, which needs root; ext4 and ISO 9660 are made by programs that only write the file. */
  readonly fileSystem: 'xfs' | 'ext4' | 'iso9660';
  /** Size of the whole image; an estimate for iso9660. */
  readonly sizeBytes: number;
  /** Size of the partition; the image has 1 MiB before and after it. */
  readonly partitionBytes: number;
}

const MIB = 1024 * 1024;
/** Space before the partition, the usual alignment, and after it, for the second GPT. */
export const EDGE_BYTES = MIB;
/** The log takes at least 64 MiB, and the smallest file system has 300 MiB. Source: mkfs.xfs(8). */
const XFS_BYTES = 336 * MIB;
/** Journal of 64 MiB at this size, growing to 1 GiB; inode tables take 1.6 % of the rest. Source: mke2fs(8); tried with 5 to 250 GiB. */
const EXT4_BYTES = 160 * MIB;
/** Volume labels. Source: ECMA-119, 8.4.7; 32 characters. */
const ISO_LABEL_LIMIT = 32;
/** Characters that the programs which make an image without root quote in their lists and output. */
const AWKWARD = /['"\\\p{Cc}]/u;

/**
 * Decides how an image of a bundle is made. Pure.
 * @throws PrestageError ERR_USAGE
 */
export function planImage(
  bundle: Bundle,
  request: { readonly format: ImageFormat; readonly label: string; readonly isRoot: boolean },
): ImagePlan {
  const { format, label, isRoot } = request;
  if (format === 'iso' && label.length > ISO_LABEL_LIMIT)
    throw new PrestageError(
      'ERR_USAGE',
      `"${label}" has ${label.length} characters; the label of an ISO image may have ${ISO_LABEL_LIMIT}`,
      'Use a shorter --label',
    );
  const content =
    contentBytes(bundle.files) + contentBytes([{ path: BUNDLE_FILE, sizeBytes: 256 * bundle.files.length + MIB, sha256: '' }]);
  if (format === 'disk' && isRoot) return sized('disk', 'xfs', content * 1.03 + XFS_BYTES);
  refuseAwkward(bundle);
  return format === 'iso' ? sized('iso', 'iso9660', content + MIB) : sized('disk', 'ext4', content * 1.025 + EXT4_BYTES);
}

function sized(format: ImageFormat, fileSystem: ImagePlan['fileSystem'], bytes: number): ImagePlan {
  const partitionBytes = Math.ceil(bytes / MIB) * MIB;
  return { format, fileSystem, partitionBytes, sizeBytes: partitionBytes + (format === 'disk' ? 2 * EDGE_BYTES : 0) };
}

function refuseAwkward(bundle: Bundle): void {
  const awkward = bundle.files
    .filter((file) => AWKWARD.test(file.path))
    .map((file) => `${quoteInput(file.path)} contains a quote, a backslash or a control character`);
  if (awkward.length === 0) return;
  throw new PrestageError(
    'ERR_USAGE',
    listFaults('some files of the bundle cannot be stored in an image', awkward),
    'Rename them and build the bundle again, or make a disk image as root',
  );
}

/** @throws PrestageError ERR_SPACE_PARTITION */
export function checkImageSpace(plan: ImagePlan, free: { readonly path: string; readonly freeBytes: number }): void {
  if (plan.sizeBytes <= free.freeBytes) return;
  throw new PrestageError(
    'ERR_SPACE_PARTITION',
    `${free.path} has ${formatBytes(free.freeBytes)} free, but the image needs ${formatBytes(plan.sizeBytes)}`,
    'Free space there, or write the image to another file system',
  );
}
