import type { DiskFacts, DiskPartition } from '../../agent/partition/disk-facts.ts';

export const GIB = 1024 ** 3;

/** A disk of 500 GiB with an empty GPT, that nobody uses. */
export function diskFacts(change: Partial<DiskFacts> = {}): DiskFacts {
  const sectorBytes = change.sectorBytes ?? 512;
  const sizeBytes = change.sizeBytes ?? 500 * GIB;
  return {
    name: '/dev/sda',
    device: '/dev/sda',
    kind: 'disk',
    model: 'Model',
    identity: { kind: 'serial number', value: 'S1' },
    sizeBytes,
    sectorBytes,
    isReadOnly: false,
    table: 'gpt',
    damage: undefined,
    content: undefined,
    lastUsableSector: sizeBytes / sectorBytes - 1 - 1 - Math.ceil(16384 / sectorBytes),
    isGrown: false,
    partitions: [],
    uses: [],
    isClaimed: false,
    ...change,
  };
}

/** A partition of /dev/sda. */
export function diskPartition(number: number, range: readonly [number, number], change: Partial<DiskPartition> = {}): DiskPartition {
  return {
    number,
    device: `/dev/sda${number}`,
    startSector: range[0],
    endSector: range[1],
    label: `p${number}`,
    fileSystem: 'ext4',
    ...change,
  };
}
