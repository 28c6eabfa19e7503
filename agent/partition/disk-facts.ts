import * as v from 'valibot';
import type { MountEntry } from '../host/mount-table.ts';
import { PrestageError } from '../model/errors.ts';

/** A partition as listed in the table on the disk. Sectors are logical sectors of the disk. */
export interface DiskPartition {
  readonly number: number;
  /** Device node, such as /dev/nvme0n1p5; it exists only if the kernel has read the table. */
  readonly device: string;
  readonly startSector: number;
  /** Last sector, which is part of it. */
  readonly endSector: number;
  /** GPT partition name; empty if it has none. */
  readonly label: string;
  /** File system type; undefined if blkid recognizes none. */
  readonly fileSystem: string | undefined;
}

/** Something that keeps a disk from being changed. */
export interface DiskUse {
  readonly device: string;
  /** `mount`: `at` is where; `swap`; `holder`: `at` is the device that is built on it, such as /dev/mapper/vg-root. */
  readonly kind: 'mount' | 'swap' | 'holder';
  readonly at: string;
}

/** Everything that a plan needs to know about a disk. */
export interface DiskFacts {
  /** Name for messages: the device, or the path of the image. */
  readonly name: string;
  /** Block device: that of the disk, or the loop device of the image. */
  readonly device: string;
  /** What lsblk calls it: `disk`, `loop`, `part`, `rom`, `mpath`…; `image` for a file that was attached for this. */
  readonly kind: string;
  readonly model: string | undefined;
  /** What `--expect-serial` is compared with. */
  readonly identity: DiskIdentity;
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  readonly isReadOnly: boolean;
  /** `gpt`, `none`, or another kind of table by blkid's name (`dos`…). */
  readonly table: string;
  /** What is wrong with the GPT, for people; undefined if there is no GPT or it is intact. */
  readonly damage: string | undefined;
  /** What blkid finds on the disk as a whole, such as xfs or LVM2_member; undefined if nothing. */
  readonly content: string | undefined;
  /** Last sector that a partition may use once the second table is at the end of the disk, where it belongs. */
  readonly lastUsableSector: number;
  /** The disk has grown: its second table is not at its end. */
  readonly isGrown: boolean;
  readonly partitions: readonly DiskPartition[];
  readonly uses: readonly DiskUse[];
  /** The kernel refuses an exclusive open: the disk is in use, even if `uses` does not explain by what. */
  readonly isClaimed: boolean;
}

export interface DiskIdentity {
  readonly kind: 'serial number' | 'world wide name' | 'path';
  readonly value: string;
}

/** A device in lsblk's tree. */
export interface BlockNode {
  readonly name: string;
  /** `8:1` */
  readonly number: string;
  readonly type: string;
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  readonly isReadOnly: boolean;
  readonly model: string | undefined;
  readonly serial: string | undefined;
  readonly wwn: string | undefined;
  readonly children: readonly BlockNode[];
}

export const LSBLK_DISK_ARGS = ['--json', '--bytes', '--paths', '--output', 'NAME,MAJ:MIN,TYPE,SIZE,RO,LOG-SEC,MODEL,SERIAL,WWN'] as const;

interface RawNode {
  readonly name: string;
  readonly 'maj:min': string;
  readonly type: string;
  readonly size?: number | string | null | undefined;
  readonly ro?: boolean | string | null | undefined;
  readonly 'log-sec'?: number | string | null | undefined;
  readonly model?: string | null | undefined;
  readonly serial?: string | null | undefined;
  readonly wwn?: string | null | undefined;
  readonly children?: readonly RawNode[] | undefined;
}

const text = v.nullish(v.string());
const number = v.nullish(v.union([v.number(), v.string()]));
const rawSchema: v.GenericSchema<RawNode> = v.object({
  name: v.string(),
  'maj:min': v.pipe(
    v.string(),
    v.transform((value) => value.trim()),
  ),
  type: v.string(),
  size: number,
  ro: v.nullish(v.union([v.boolean(), v.string()])),
  'log-sec': number,
  model: text,
  serial: text,
  wwn: text,
  children: v.optional(v.array(v.lazy(() => rawSchema))),
});
const answerSchema = v.object({ blockdevices: v.pipe(v.array(rawSchema), v.minLength(1)) });

/**
 * Reads lsblk's answer about one device. Old releases (2.32, RHEL 8) give numbers and booleans as strings.
 * @throws PrestageError ERR_TOOL_FAILED
 */
export function parseDisk(json: string, device: string): BlockNode {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), answerSchema), json);
  const [node] = parsed.success ? parsed.output.blockdevices : [];
  if (node !== undefined) return blockNode(node);
  const reason = parsed.success ? 'it lists no device' : parsed.issues[0].message;
  throw new PrestageError(
    'ERR_TOOL_FAILED',
    `the output of lsblk cannot be parsed: ${reason}`,
    `Run by hand: lsblk ${LSBLK_DISK_ARGS.join(' ')} ${device}`,
  );
}

function blockNode(raw: RawNode): BlockNode {
  return {
    name: raw.name,
    number: raw['maj:min'],
    type: raw.type,
    sizeBytes: Number(raw.size ?? 0),
    sectorBytes: Number(raw['log-sec'] ?? 512),
    isReadOnly: raw.ro === true || raw.ro === '1',
    model: raw.model?.trim() || undefined,
    serial: raw.serial?.trim() || undefined,
    wwn: raw.wwn?.trim() || undefined,
    children: (raw.children ?? []).map(blockNode),
  };
}

/** Finds what uses a disk or its partitions. Pure. `swaps` is the text of /proc/swaps. */
export function usesOf(disk: BlockNode, mounts: readonly MountEntry[], swaps: string): readonly DiskUse[] {
  const swapDevices = new Set(swaps.split('\n').map((line) => line.split(/\s/)[0] ?? ''));
  const usesBelow = (node: BlockNode): readonly DiskUse[] => [
    ...mounts
      .filter((mount) => mount.number === node.number || mount.source === node.name)
      .map((mount): DiskUse => ({ device: node.name, kind: 'mount', at: mount.target })),
    ...(swapDevices.has(node.name) ? [{ device: node.name, kind: 'swap', at: 'swap' } as const] : []),
    ...node.children
      .filter((child) => child.type !== 'part')
      .map((child): DiskUse => ({ device: node.name, kind: 'holder', at: child.name })),
    ...node.children.flatMap(usesBelow),
  ];
  const uses = usesBelow(disk);
  return [...new Map(uses.map((use) => [JSON.stringify(use), use])).values()];
}

/** The node of a partition: a disk whose name ends in a digit gets a `p` before the number. Source: Linux, block/partitions/core.c, disk_name. */
export function partitionDevice(disk: string, number: number): string {
  return /\d$/.test(disk) ? `${disk}p${number}` : `${disk}${number}`;
}
