import { crc32 } from 'node:zlib';

/** A partition as listed in a GPT. Sectors are logical sectors of the size that the table was made for. */
export interface GptPartition {
  readonly number: number;
  readonly startSector: number;
  /** Last sector, which is part of it. */
  readonly endSector: number;
  readonly label: string;
}

/** Source: UEFI 2.10, 5.3.2, GPT header. */
export interface GptHeader {
  readonly sectorBytes: number;
  /** Sector of this header. */
  readonly sector: number;
  /** Sector of the other header. */
  readonly otherSector: number;
  readonly lastUsableSector: number;
  readonly disk: string;
  readonly entries: { readonly sector: number; readonly count: number; readonly bytes: number; readonly crc: number };
}

/** What was found at a place for a header. */
export type FoundTable =
  | { readonly kind: 'absent' }
  | { readonly kind: 'damaged'; readonly sectorBytes: number; readonly fault: string }
  | { readonly kind: 'sound'; readonly header: GptHeader; readonly partitions: readonly GptPartition[] };

/** What the first sector holds: no MBR; a protective one, which announces a GPT; one that also has partitions; or an ordinary MBR. */
export type Mbr = 'none' | 'protective' | 'hybrid' | 'mbr';

const SIGNATURE = 'EFI PART';
const HEADER_BYTES = 92;
const PROTECTIVE = 0xee;
/** 128 entries of 128 bytes are usual; anything larger than this is not a table. */
const MOST_ENTRIES_BYTES = 1024 * 1024;

/** Source: UEFI 2.10, 5.2.1 and 5.2.3. Pure. */
export function readMbr(sector: Buffer): Mbr {
  if (sector.length < 512 || sector.readUInt16LE(510) !== 0xaa55) return 'none';
  const types = [0, 1, 2, 3].map((index) => sector.readUInt8(446 + 16 * index + 4));
  if (!types.includes(PROTECTIVE)) return 'mbr';
  return types.some((type) => type !== 0 && type !== PROTECTIVE) ? 'hybrid' : 'protective';
}

/**
 * Reads a header. Its entries must be read separately. Pure.
 * @param bytes one sector
 * @returns undefined if there is no header, or a text that says what is wrong with it
 */
export function readHeader(
  bytes: Buffer,
  place: { readonly sector: number; readonly sectorBytes: number },
): GptHeader | string | undefined {
  if (bytes.length < HEADER_BYTES || bytes.toString('latin1', 0, 8) !== SIGNATURE) return undefined;
  const headerBytes = bytes.readUInt32LE(12);
  if (headerBytes < HEADER_BYTES || headerBytes > bytes.length) return `its header has an impossible size of ${headerBytes} bytes`;
  const summed = Buffer.from(bytes.subarray(0, headerBytes));
  summed.writeUInt32LE(0, 16);
  if (crc32(summed) !== bytes.readUInt32LE(16)) return 'the checksum of its header is wrong';
  const sectorAt = (offset: number): number => Number(bytes.readBigUInt64LE(offset));
  if (sectorAt(24) !== place.sector) return `its header is at sector ${place.sector}, but belongs at sector ${sectorAt(24)}`;
  const entries = { sector: sectorAt(72), count: bytes.readUInt32LE(80), bytes: bytes.readUInt32LE(84), crc: bytes.readUInt32LE(88) };
  if (entries.bytes < 128 || entries.count * entries.bytes > MOST_ENTRIES_BYTES)
    return `its header claims an impossible ${entries.count} entries of ${entries.bytes} bytes`;
  return {
    ...place,
    otherSector: sectorAt(32),
    lastUsableSector: sectorAt(48),
    disk: bytes.toString('hex', 56, 72),
    entries,
  };
}

/** Reads the entries of a header. Source: UEFI 2.10, 5.3.3. Pure. @returns the entries, or a text that says what is wrong with them */
export function readEntries(bytes: Buffer, { entries }: GptHeader): readonly GptPartition[] | string {
  const wanted = entries.count * entries.bytes;
  if (bytes.length < wanted) return 'its entries are beyond the end of the disk';
  if (crc32(bytes.subarray(0, wanted)) !== entries.crc) return 'the checksum of its entries is wrong';
  return Array.from({ length: entries.count }, (_, index) => bytes.subarray(index * entries.bytes, (index + 1) * entries.bytes)).flatMap(
    (entry, index) => {
      if (entry.subarray(0, 16).every((byte) => byte === 0)) return [];
      const [startSector, endSector] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))];
      const [label = ''] = entry.toString('utf16le', 56, 128).split('\0');
      return [{ number: index + 1, startSector, endSector, label }];
    },
  );
}

/** What was found at both ends of a disk. */
export interface DiskEnds {
  readonly mbr: Mbr;
  readonly first: FoundTable;
  readonly last: FoundTable;
}

/** The ends of a disk without a medium. */
export const NO_ENDS: DiskEnds = { mbr: 'none', first: { kind: 'absent' }, last: { kind: 'absent' } };

/** The conclusion from both ends of a disk. */
export interface TableVerdict {
  readonly kind: 'gpt' | 'mbr' | 'none';
  /** What is wrong with a GPT, for people, with the partitions that can still be read; undefined if it is intact. */
  readonly damage: string | undefined;
  /** In sectors of this disk; empty if the table was made for sectors of another size. */
  readonly partitions: readonly GptPartition[];
  /** Last sector that partitions of the GPT may use; undefined if no copy of it is intact. */
  readonly lastUsableSector: number | undefined;
}

/**
 * Judges the table of a disk by its two ends. A table is intact if both copies are intact and equal. If both ends are blank, there is no table.
 * Everything else is a damaged table, even if parts can be read. Copies for different sector sizes are not equal. Pure.
 */
export function judgeEnds({ mbr, first, last }: DiskEnds, sectorBytes: number): TableVerdict {
  if (mbr !== 'protective' && mbr !== 'hybrid' && first.kind === 'absent' && last.kind === 'absent')
    return { kind: mbr, damage: undefined, partitions: [], lastUsableSector: undefined };
  const [sound] = [first, last].filter((found) => found.kind === 'sound');
  const faults = [...mbrFault(mbr), ...sizeFault(sound, sectorBytes), ...copiesFault(first, last)];
  const fits = sound?.header.sectorBytes === sectorBytes ? sound : undefined;
  return {
    kind: 'gpt',
    damage: faults.length === 0 ? undefined : [...faults, ...listed(sound?.partitions ?? [])].join('; '),
    partitions: fits?.partitions ?? [],
    lastUsableSector: fits?.header.lastUsableSector,
  };
}

type SoundTable = Extract<FoundTable, { readonly kind: 'sound' }>;

function copiesFault(first: FoundTable, last: FoundTable): readonly string[] {
  if (first.kind !== 'sound' || last.kind !== 'sound')
    return [`start of the disk: ${describeTable(first)}`, `end of the disk: ${describeTable(last)}`];
  const isSame = first.header.disk === last.header.disk && first.header.entries.crc === last.header.entries.crc;
  return isSame ? [] : ['the tables at the two ends of the disk differ'];
}

/** Most partitions that a message names. */
const MOST_NAMED = 8;

function listed(partitions: readonly GptPartition[]): readonly string[] {
  if (partitions.length === 0) return [];
  // A label can contain any bytes.
  const named = partitions
    .slice(0, MOST_NAMED)
    .map(({ number, label, startSector, endSector }) => `${number} ${JSON.stringify(label)} (sectors ${startSector} to ${endSector})`);
  const more = partitions.length - named.length;
  return [`partitions: ${named.join(', ')}${more === 0 ? '' : `, and ${more} more`}`];
}

function mbrFault(mbr: Mbr): readonly string[] {
  switch (mbr) {
    case 'protective':
      return [];
    case 'none':
      return ['the protective MBR in front of it is missing'];
    case 'mbr':
      return ['the MBR in front of it has partitions of its own and does not protect it'];
    case 'hybrid':
      return ['the MBR in front of it has partitions of its own (a hybrid MBR)'];
  }
}

function sizeFault(sound: SoundTable | undefined, sectorBytes: number): readonly string[] {
  if (sound === undefined || sound.header.sectorBytes === sectorBytes) return [];
  return [`it was made for sectors of ${sound.header.sectorBytes} bytes, but the disk has sectors of ${sectorBytes} bytes`];
}

function describeTable(found: FoundTable): string {
  switch (found.kind) {
    case 'absent':
      return 'no table';
    case 'damaged':
      return `a damaged table (${found.fault})`;
    case 'sound':
      return `a table with ${found.partitions.length === 1 ? '1 partition' : `${found.partitions.length} partitions`}`;
  }
}
