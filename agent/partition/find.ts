import * as v from 'valibot';
import { PrestageError } from '../model/errors.ts';

/** A partition that lsblk knows, or a disk without partitions: virtual media carry an ISO 9660 file system as a whole. */
export interface BlockPartition {
  /** Device node, such as /dev/nvme0n1p5. */
  readonly device: string;
  readonly sizeBytes: number;
  /** GPT partition name, or volume label of virtual media; undefined if lsblk does not know it (no udev database). */
  readonly label: string | undefined;
  /** File system type; undefined if lsblk does not know it. */
  readonly fileSystem: string | undefined;
}

/** Columns requested from lsblk(8). Old releases (2.32, RHEL 8) have no PATH column; `--paths` puts the path into NAME. */
export const LSBLK_ARGS = ['--json', '--bytes', '--paths', '--output', 'NAME,TYPE,SIZE,PARTLABEL,FSTYPE,LABEL'] as const;

interface Node {
  readonly name: string;
  readonly type: string;
  readonly size?: number | string | null | undefined;
  readonly partlabel?: string | null | undefined;
  readonly fstype?: string | null | undefined;
  readonly label?: string | null | undefined;
  readonly children?: readonly Node[] | undefined;
}

const nodeSchema: v.GenericSchema<Node> = v.object({
  name: v.string(),
  type: v.string(),
  size: v.nullish(v.union([v.number(), v.string()])),
  partlabel: v.nullish(v.string()),
  fstype: v.nullish(v.string()),
  label: v.nullish(v.string()),
  children: v.optional(v.array(v.lazy(() => nodeSchema))),
});
const lsblkSchema = v.object({ blockdevices: v.array(nodeSchema) });

/**
 * All partitions in the output of lsblk, and all disks without partitions that are or may be virtual media, each device once. For a multipath disk,
 * only the partitions of the multipath device count, not the same ones under its paths.
 * @throws PrestageError ERR_TOOL_FAILED if the text is not JSON of lsblk
 */
export function parseLsblk(json: string): readonly BlockPartition[] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), lsblkSchema), json);
  if (!parsed.success) {
    throw new PrestageError(
      'ERR_TOOL_FAILED',
      `the output of lsblk cannot be parsed: ${parsed.issues[0].message}`,
      `Run by hand: lsblk ${LSBLK_ARGS.join(' ')}`,
    );
  }
  const found = parsed.output.blockdevices.flatMap(partitionsBelow);
  return [...new Map(found.map((partition) => [partition.device, partition])).values()];
}

/**
 * Parses the `KEY=value` lines of `blkid --probe --output export` for one device. The label is the one in the partition table. The label of the file
 * system counts only for ISO 9660 on a whole disk, which has no table. Source: blkid(8).
 */
export function parseBlkid(text: string): Pick<BlockPartition, 'label' | 'fileSystem'> {
  const value = (key: string): string | undefined => new RegExp(`^${key}=(.*)$`, 'm').exec(text)?.[1]?.replaceAll(/\\(.)/g, '$1');
  const fileSystem = value('TYPE');
  const isMedia = fileSystem === MEDIA && value('PART_ENTRY_SCHEME') === undefined;
  return { label: value('PART_ENTRY_NAME') ?? (isMedia ? value('LABEL') : undefined), fileSystem };
}

/**
 * The name of the link that udev makes for a label below /dev/disk/by-partlabel: ASCII outside a small set becomes \xHH.
 * Source: systemd, src/shared/udev-util.c, encode_devnode_name.
 */
export function udevName(label: string): string {
  return label.replaceAll(
    /[^0-9A-Za-z#+\-.:=@_\u0080-\u{10ffff}]/gu,
    (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

/** The file system of virtual media. */
const MEDIA = 'iso9660';
/** Types that lsblk(8) gives virtual media: an optical drive, a USB disk, a loop device. */
const MEDIA_TYPES: readonly string[] = ['rom', 'disk', 'loop'];

/** File systems that the agent mounts. */
export const FILE_SYSTEMS: readonly string[] = ['xfs', 'ext4', 'iso9660'];

/**
 * The only partition with the label, or undefined if there is none (yet).
 * @throws PrestageError ERR_PARTITION_AMBIGUOUS, ERR_PARTITION_FILESYSTEM
 */
export function choosePartition(
  partitions: readonly BlockPartition[],
  label: string,
): (BlockPartition & { readonly fileSystem: string }) | undefined {
  const [first, ...others] = partitions.filter((partition) => partition.label === label);
  if (first === undefined) return undefined;
  if (others.length > 0) {
    const devices = [first, ...others].map((partition) => partition.device).join(', ');
    throw new PrestageError(
      'ERR_PARTITION_AMBIGUOUS',
      `${others.length + 1} partitions have the label "${label}": ${devices}`,
      `Detach the wrong disk, or relabel the wrong partition: sgdisk --change-name N:other DISK`,
    );
  }
  const { fileSystem } = first;
  if (fileSystem === undefined || !FILE_SYSTEMS.includes(fileSystem)) {
    throw new PrestageError(
      'ERR_PARTITION_FILESYSTEM',
      `${first.device} (label "${label}") holds ${fileSystem ?? 'no known file system'}, expected one of ${FILE_SYSTEMS.join(', ')}`,
      'Create the data partition again at the factory with XFS, or name another partition with --label',
    );
  }
  return { ...first, fileSystem };
}

function partitionsBelow(node: Node): readonly BlockPartition[] {
  const children = node.children ?? [];
  const isPathOfMultipath = children.some((child) => child.type === 'mpath');
  const below = children.filter((child) => !isPathOfMultipath || child.type === 'mpath').flatMap(partitionsBelow);
  const self = { device: node.name, sizeBytes: Number(node.size ?? 0), fileSystem: node.fstype ?? undefined };
  if (node.type === 'part') return [{ ...self, label: node.partlabel ?? undefined }, ...below];
  return isMedia(node) ? [{ ...self, label: node.label ?? undefined }] : below;
}

/** A whole disk without partitions that holds ISO 9660, or whose content lsblk does not know. */
function isMedia(node: Node): boolean {
  const isBare = (node.children ?? []).length === 0 && MEDIA_TYPES.includes(node.type) && Number(node.size ?? 0) > 0;
  return isBare && (node.fstype ?? MEDIA) === MEDIA;
}
