import { constants } from 'node:fs';
import { access, type FileHandle, open, readFile, realpath, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Act } from '../host/acts.ts';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { attachLoop, lastingLoop } from '../host/loop.ts';
import { readMounts } from '../host/mount-table.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import {
  type BlockNode,
  type DiskFacts,
  type DiskIdentity,
  type DiskPartition,
  LSBLK_DISK_ARGS,
  parseDisk,
  partitionDevice,
  usesOf,
} from './disk-facts.ts';
import { parseBlkid } from './find.ts';
import { type GptPartition, judgeEnds, NO_ENDS } from './gpt.ts';
import { readEnds } from './read-ends.ts';

/** A disk, a partition, or an image behind a loop device. Disposing detaches a loop device that was attached for it. */
export interface OpenDisk extends AsyncDisposable {
  /** Name for messages: the device node with links resolved, or the absolute path of the image. */
  readonly name: string;
  /** Block device. */
  readonly device: string;
  /** Path of the image, if it is an image. */
  readonly image: string | undefined;
}

/**
 * Opens what a person names: a block device directly, a regular file as a disk image through a loop device.
 * @throws PrestageError ERR_DISK, ERR_DISK_BUSY if the image is already attached
 */
export async function openDisk(host: Host, path: string, options: { readonly readOnly: boolean; readonly act: Act }): Promise<OpenDisk> {
  const name = await realpath(path).catch((cause: NodeJS.ErrnoException) => {
    throw notADisk(path, `cannot be opened: ${reasonOf(cause)}`, cause);
  });
  const found = await stat(name);
  if (found.isBlockDevice()) return { name, device: name, image: undefined, [Symbol.asyncDispose]: async () => undefined };
  if (!found.isFile()) throw notADisk(path, 'is neither a block device nor a file');
  if (found.size < 1024 * 1024) throw notADisk(path, `has ${found.size} bytes, too few for a disk`);
  const attached = await lastingLoop(host, name);
  if (attached !== undefined) throw attachedAlready(name, attached);
  const isWritable = await canWrite(name);
  const loop = await options.act('attach-image', async () => await attachLoop(host, name, { readOnly: options.readOnly || !isWritable }));
  return { name, device: loop.device, image: name, [Symbol.asyncDispose]: async () => await loop[Symbol.asyncDispose]() };
}

/** Smaller differences do not count as growth: a table with more than 128 entries also ends some sectors earlier. */
const GROWN_BYTES = 1024 * 1024;

/** Reads the facts of a disk. A partition is treated as a disk without a table. Nothing is written. */
export async function readDisk(host: Host, disk: OpenDisk): Promise<DiskFacts> {
  const node = parseDisk(await output(host.exec, 'lsblk', [...LSBLK_DISK_ARGS, disk.device]), disk.device);
  const { table, content, damage, lastUsableSector, ...found } = await readTable(host, disk.device, node);
  const couldEndAt = Math.floor(node.sizeBytes / node.sectorBytes) - reservedSectors(node.sectorBytes) - 1;
  const endsAt = lastUsableSector ?? couldEndAt;
  const isGrown = (couldEndAt - endsAt) * node.sectorBytes > GROWN_BYTES;
  const uses = usesOf(node, await readMounts(), await readFile('/proc/swaps', 'utf8'));
  return {
    name: disk.name,
    device: disk.device,
    kind: disk.image === undefined ? node.type : 'image',
    model: node.model ?? (await attributeOf(disk.device, 'device/model')),
    identity: await identityOf(disk, node),
    sizeBytes: node.sizeBytes,
    sectorBytes: node.sectorBytes,
    isReadOnly: disk.image === undefined ? node.isReadOnly : !(await canWrite(disk.image)),
    table,
    content,
    damage,
    lastUsableSector: isGrown ? couldEndAt : endsAt,
    isGrown,
    partitions: await Promise.all(
      found.partitions.map(async (each) => await describePartition(host, each, { device: disk.device, sectorBytes: node.sectorBytes })),
    ),
    uses,
    isClaimed: await isClaimed(host, disk.device, uses.length === 0 ? CLAIM_LIMIT_MS : 0),
  };
}

/** Size of the second table: one sector for the header, and 128 entries of 128 bytes. Source: UEFI 2.10, 5.3.1. */
function reservedSectors(sectorBytes: number): number {
  return 1 + Math.ceil((128 * 128) / sectorBytes);
}

/** blkid reports only a usable GPT; a disk with half a table looks blank to it. So both ends of the disk are read, too. */
async function readTable(host: Host, device: string, { sizeBytes, sectorBytes }: BlockNode) {
  const probe = await probeWhole(host, device);
  const ends = judgeEnds(sizeBytes === 0 ? NO_ENDS : await readEnds(device, { sizeBytes, sectorBytes }), sectorBytes);
  if (ends.kind === 'gpt') return { ...ends, table: 'gpt', content: probe.content };
  // Boot sectors of file systems end as an MBR does.
  const isMbr = ends.kind === 'mbr' && probe.content === undefined && probe.table === 'none';
  return { ...ends, table: isMbr ? 'dos' : probe.table, content: probe.content };
}

/** Probes the content of a partition by its offset on the disk, because the kernel may not know the partitions of an image. */
async function describePartition(
  host: Host,
  partition: GptPartition,
  { device, sectorBytes }: { readonly device: string; readonly sectorBytes: number },
): Promise<DiskPartition> {
  const offset = partition.startSector * sectorBytes;
  const size = (partition.endSector - partition.startSector + 1) * sectorBytes;
  const probe = await host.exec('blkid', ['--probe', '--output', 'export', '--offset', `${offset}`, '--size', `${size}`, device]);
  return { ...partition, device: partitionDevice(device, partition.number), fileSystem: parseBlkid(probe.stdout).fileSystem };
}

/** Exit code 8 of blkid(8): it found signatures of several kinds. */
const AMBIVALENT = 8;

async function probeWhole(host: Host, device: string): Promise<{ readonly table: string; readonly content: string | undefined }> {
  const result = await host.exec('blkid', ['--probe', '--output', 'export', device]);
  if (result.exitCode === AMBIVALENT) return { table: 'none', content: 'signatures of several kinds' };
  const value = (key: string): string | undefined => new RegExp(`^${key}=(.*)$`, 'm').exec(result.stdout)?.[1];
  return { table: value('PTTYPE') ?? 'none', content: value('TYPE') };
}

async function identityOf(disk: OpenDisk, node: BlockNode): Promise<DiskIdentity> {
  if (disk.image !== undefined) return { kind: 'path', value: disk.image };
  const serial = node.serial ?? (await attributeOf(disk.device, 'serial')) ?? (await attributeOf(disk.device, 'device/serial'));
  if (serial !== undefined) return { kind: 'serial number', value: serial };
  if (node.wwn !== undefined) return { kind: 'world wide name', value: node.wwn };
  return { kind: 'path', value: (await attributeOf(disk.device, 'loop/backing_file')) ?? disk.device };
}

/** An attribute of the block device; undefined if missing or empty. Source: Linux, Documentation/ABI/stable/sysfs-block. */
async function attributeOf(device: string, attribute: string): Promise<string | undefined> {
  const text = await readFile(`/sys/class/block/${basename(device)}/${attribute}`, 'utf8').catch(() => '');
  return text.trim() || undefined;
}

/** How long to wait if no use explains it: a udev scan, or a program left by a killed command, can hold a device briefly. */
const CLAIM_LIMIT_MS = 2_000;
const CLAIM_PAUSE_MS = 50;

/**
 * Whether the device or a partition of it is claimed by anything in any mount namespace. Source: open(2), O_EXCL on a block device.
 */
async function isClaimed(host: Host, device: string, limitMs: number): Promise<boolean> {
  for (const start = host.clock.monotonicMs(); await refusesExclusive(device); await host.clock.sleep(CLAIM_PAUSE_MS)) {
    if (host.clock.monotonicMs() - start >= limitMs) return true;
  }
  return false;
}

async function refusesExclusive(device: string): Promise<boolean> {
  try {
    await using _file: FileHandle = await open(device, constants.O_RDONLY | constants.O_EXCL);
    return false;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    if (error.code === 'EBUSY') return true;
    throw notADisk(device, `cannot be opened: ${reasonOf(error)}`, error);
  }
}

async function canWrite(path: string): Promise<boolean> {
  return await access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}

function notADisk(path: string, what: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_DISK',
    `${path} ${what}`,
    'Name a disk (list them: lsblk -d -o NAME,MODEL,SERIAL,SIZE) or a disk image (make an empty one: truncate -s 200G FILE)',
    cause === undefined ? undefined : { cause },
  );
}

function attachedAlready(image: string, loop: string): PrestageError {
  return new PrestageError(
    'ERR_DISK_BUSY',
    `${image} is already attached to ${loop}`,
    `Detach it (losetup --detach ${loop}), or name ${loop} instead of the image`,
  );
}
