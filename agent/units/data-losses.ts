import { posix } from 'node:path';
import * as v from 'valibot';
import { quoteInput } from '../model/faults.ts';
import type { IgnitionConfig } from './config.ts';
import { nestedConfigs } from './nested-configs.ts';
import type { IgnitionFault } from './validate.ts';

const partitionSchema = v.object({
  label: v.nullish(v.string()),
  number: v.nullish(v.number()),
  shouldExist: v.nullish(v.boolean()),
  wipePartitionEntry: v.nullish(v.boolean()),
});
const diskSchema = v.object({ device: v.string(), wipeTable: v.nullish(v.boolean()), partitions: v.nullish(v.array(v.unknown())) });
const luksSchema = v.object({ device: v.nullish(v.string()) });
const raidSchema = v.object({ devices: v.nullish(v.array(v.string())) });
const storageSchema = v.object({
  disks: v.optional(v.unknown()),
  raid: v.optional(v.unknown()),
  luks: v.optional(v.unknown()),
  filesystems: v.optional(v.unknown()),
});
const filesystemSchema = v.object({ device: v.string(), wipeFilesystem: v.nullish(v.boolean()) });

type Partition = v.InferOutput<typeof partitionSchema>;

/** A well-formed element of a list, with its place. Ignition itself refuses malformed ones. */
interface Placed<T> {
  readonly item: T;
  readonly place: string;
}

/**
 * Finds parts of an override that destroy the data partition, which holds the bundle before Ignition runs. Errors: destroys it in any case. Warnings:
 * destroys it on some disks, because an override does not know on which disk it is. Pure.
 * Source: ignition docs/configuration-v3_2.md, storage.disks, raid, luks, filesystems; docs/operator-notes.md, "Partition reuse semantics".
 * @param label GPT label of the data partition
 */
export function dataLosses(config: IgnitionConfig, label: string): readonly IgnitionFault[] {
  const parts: readonly { readonly prefix: string; readonly storage: unknown }[] = [
    { prefix: '', storage: config.storage },
    ...nestedConfigs(config).map(({ place, storage }) => ({ prefix: `${place}, `, storage })),
  ];
  const all = parts.map(({ prefix, storage }) => storageParts(storage, prefix));
  const holders = all.flatMap(({ disks }) => disks).filter(({ parts: ofDisk }) => ofDisk.some(({ item }) => item.label === label));
  const targets: Targets = {
    label,
    what: `the data partition ${quoteInput(label)}`,
    partitions: new Set([
      `/dev/disk/by-partlabel/${label}`,
      `/dev/disk/by-label/${label}`,
      ...holders.flatMap(({ device, parts: ofDisk }) =>
        ofDisk.flatMap(({ item }) => (item.label === label && item.number ? [partitionDevice(device, item.number)] : [])),
      ),
    ]),
    disks: new Set(holders.map(({ device }) => posix.normalize(device))),
  };
  return all.flatMap((one) => lossesIn(one, targets));
}

/** What must not be formatted or wiped. */
interface Targets {
  readonly label: string;
  readonly what: string;
  readonly partitions: ReadonlySet<string>;
  /** Disks that have the data partition, according to the override. */
  readonly disks: ReadonlySet<string>;
}

/** The parts of a config that change disks, with their places. */
function storageParts(storage: unknown, prefix: string) {
  const read = v.safeParse(storageSchema, storage);
  const { disks, raid, luks, filesystems } = read.success ? read.output : {};
  const at = (name: string): string => `${prefix}$.storage.${name}`;
  return {
    disks: placed(diskSchema, disks, at('disks')).map(({ item, place }) => ({
      ...item,
      place,
      parts: placed(partitionSchema, item.partitions, `${place}.partitions`),
    })),
    raid: placed(raidSchema, raid, at('raid')),
    luks: placed(luksSchema, luks, at('luks')),
    filesystems: placed(filesystemSchema, filesystems, at('filesystems')),
  };
}

function lossesIn({ disks, raid, luks, filesystems }: ReturnType<typeof storageParts>, targets: Targets): readonly IgnitionFault[] {
  return [
    ...disks.flatMap(({ device, wipeTable, parts, place }) => [
      ...(wipeTable === true ? [tableFault(place, targets.disks.has(posix.normalize(device)), targets.what)] : []),
      ...parts.flatMap(({ item, place: at }) => partitionFaults(item, at, targets.label)),
    ]),
    ...raid.flatMap(({ item, place }) =>
      (item.devices ?? []).flatMap((device, index) => {
        const hit = hitBy(device, targets);
        return hit === undefined
          ? []
          : [fault('error', `${place}.devices[${index}]`, `the array is created on ${hit} and destroys the bundle`)];
      }),
    ),
    ...luks.flatMap(({ item, place }) => {
      const hit = hitBy(item.device, targets);
      return hit === undefined
        ? []
        : [fault('error', `${place}.device`, `the encrypted volume is created on ${hit} and destroys the bundle`)];
    }),
    ...filesystems.flatMap(({ item, place }) => {
      const hit = hitBy(item.device, targets);
      if (hit === undefined) return [];
      if (item.wipeFilesystem === true)
        return [fault('error', `${place}.wipeFilesystem`, `${hit} is formatted, which destroys the bundle`)];
      return [
        fault(
          'warning',
          `${place}.device`,
          `Ignition would use ${hit} and fail if it holds another file system; leave the partition to prestage-agent`,
        ),
      ];
    }),
  ];
}

/** Names the data partition, or the disk with it, if the device is one of these. */
function hitBy(device: string | null | undefined, { partitions, disks, what }: Targets): string | undefined {
  const path = posix.normalize(device ?? '');
  if (partitions.has(path)) return what;
  return disks.has(path) ? `the whole disk with ${what}` : undefined;
}

function tableFault(place: string, isDataDisk: boolean, what: string): IgnitionFault {
  if (isDataDisk) return fault('error', `${place}.wipeTable`, `the table of the disk with ${what} is wiped, which destroys the bundle`);
  return fault('warning', `${place}.wipeTable`, `if ${what} is on this disk, wiping the table destroys it`);
}

function partitionFaults(
  { label, number, shouldExist, wipePartitionEntry }: Partition,
  place: string,
  wanted: string,
): readonly IgnitionFault[] {
  const key = wipePartitionEntry === true ? 'wipePartitionEntry' : 'shouldExist';
  if (wipePartitionEntry !== true && shouldExist !== false) return [];
  const what = `the data partition ${quoteInput(wanted)}`;
  if (label === wanted) return [fault('error', `${place}.${key}`, `${what} is deleted or recreated, which destroys the bundle`)];
  if (!number) return [];
  return [fault('warning', `${place}.${key}`, `partition ${number} is deleted or recreated, but ${what} can have that number`)];
}

/** `/dev/sda` -> `/dev/sda5`, `/dev/nvme0n1` -> `/dev/nvme0n1p5`, `/dev/disk/by-id/x` -> `/dev/disk/by-id/x-part5`. */
function partitionDevice(disk: string, number: number): string {
  const device = posix.normalize(disk);
  if (device.startsWith('/dev/disk/')) return `${device}-part${number}`;
  return /\d$/.test(device) ? `${device}p${number}` : `${device}${number}`;
}

function placed<T>(schema: v.GenericSchema<unknown, T>, list: unknown, place: string): readonly Placed<T>[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((element: unknown, index) => {
    const read = v.safeParse(schema, element);
    return read.success ? [{ item: read.output, place: `${place}[${index}]` }] : [];
  });
}

function fault(kind: IgnitionFault['kind'], path: string, message: string): IgnitionFault {
  return { kind, path, message };
}
