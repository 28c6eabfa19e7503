import { posix } from 'node:path';
import * as v from 'valibot';
import { quoteInput } from '../model/faults.ts';
import type { IgnitionConfig } from './config.ts';
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
  const { disks, raid, luks, filesystems } = config.storage ?? {};
  const named = placed(diskSchema, disks, '$.storage.disks').map(({ item, place }) => ({
    ...item,
    place,
    parts: placed(partitionSchema, item.partitions, `${place}.partitions`),
  }));
  const devices = new Set([
    `/dev/disk/by-partlabel/${label}`,
    `/dev/disk/by-label/${label}`,
    ...named.flatMap(({ device, parts }) =>
      parts.flatMap(({ item }) => (item.label === label && item.number ? [partitionDevice(device, item.number)] : [])),
    ),
  ]);
  const isData = (device: string | null | undefined): boolean =>
    device !== null && device !== undefined && devices.has(posix.normalize(device));
  const what = `the data partition ${quoteInput(label)}`;
  return [
    ...named.flatMap(({ wipeTable, parts, place }) => [
      ...(wipeTable === true
        ? [
            tableFault(
              place,
              parts.some(({ item }) => item.label === label),
              what,
            ),
          ]
        : []),
      ...parts.flatMap(({ item, place: at }) => partitionFaults(item, at, label)),
    ]),
    ...placed(raidSchema, raid, '$.storage.raid').flatMap(({ item, place }) =>
      (item.devices ?? []).flatMap((device, index) =>
        isData(device) ? [fault('error', `${place}.devices[${index}]`, `the array is created on ${what} and destroys the bundle`)] : [],
      ),
    ),
    ...placed(luksSchema, luks, '$.storage.luks').flatMap(({ item, place }) =>
      isData(item.device) ? [fault('error', `${place}.device`, `the encrypted volume is created on ${what} and destroys the bundle`)] : [],
    ),
    ...placed(filesystemSchema, filesystems, '$.storage.filesystems').flatMap(({ item, place }) => {
      if (!isData(item.device)) return [];
      if (item.wipeFilesystem === true)
        return [fault('error', `${place}.wipeFilesystem`, `${what} is formatted, which destroys the bundle`)];
      return [
        fault('warning', `${place}.device`, `Ignition would use ${what} and fail if it holds another file system; leave the partition to prestage-agent`),
      ];
    }),
  ];
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
