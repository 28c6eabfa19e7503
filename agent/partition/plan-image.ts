import { BUNDLE_FILE, type Bundle } from '../model/bundle.ts';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults, quoteInput } from '../model/faults.ts';
import { contentBytes } from './plan-write.ts';

export const IMAGE_FORMATS = ['disk', 'iso'] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

/** How an image comes into being. */
export interface ImagePlan {
  readonly format: ImageFormat;
  /** XFS is made through a loop device, which takes root; ext4 and ISO 9660 are made by programs that write the file alone. */
  readonly fileSystem: 'xfs' | 'ext4' | 'iso9660';
  /** Of the whole image; an estimate for iso9660. */
  readonly sizeBytes: number;
  /** Of the partition; the image has 1 MiB before and after it. */
  readonly partitionBytes: number;
}

const MIB = 1024 * 1024;
/** Before the first partition, as every tool aligns it; and after it for the second GPT. */
export const EDGE_BYTES = MIB;
/** Log of 64 MiB at least, and nothing below 300 MiB. Source: mkfs.xfs(8). */
const XFS_BYTES = 336 * MIB;
/** Journal of 64 MiB at this size, growing to 1 GiB; inode tables take 1.6 % of the rest. Source: mke2fs(8); tried with 5 to 250 GiB. */
const EXT4_BYTES = 160 * MIB;
/** Volume labels. Source: ECMA-119, 8.4.7; 32 characters. */
const ISO_LABEL_LIMIT = 32;
/** What the programs that make an image without root quote in their lists and answers. */
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
      `"${label}" has ${label.length} characters, an ISO image takes a label of ${ISO_LABEL_LIMIT}`,
      'Give a shorter --label',
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
    .map((file) => `${quoteInput(file.path)} has a quote, a backslash or a control character`);
  if (awkward.length === 0) return;
  throw new PrestageError(
    'ERR_USAGE',
    listFaults('files of the bundle cannot be put into an image', awkward),
    'Rename them and build again, or make a disk image as root',
  );
}

/** @throws PrestageError ERR_SPACE_PARTITION */
export function checkImageSpace(plan: ImagePlan, free: { readonly path: string; readonly freeBytes: number }): void {
  if (plan.sizeBytes <= free.freeBytes) return;
  throw new PrestageError(
    'ERR_SPACE_PARTITION',
    `${free.path} has ${formatBytes(free.freeBytes)} free for an image of ${formatBytes(plan.sizeBytes)}`,
    'Make room there, or write the image to another file system',
  );
}
