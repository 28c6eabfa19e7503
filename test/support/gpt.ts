import { crc32 } from 'node:zlib';
import type { GptPartition } from '../../agent/partition/gpt.ts';

export interface GptSpec {
  readonly sizeBytes: number;
  readonly sectorBytes: number;
  readonly partitions: readonly GptPartition[];
  /** First byte of the disk's GUID. */
  readonly disk?: number;
}

const ENTRY_COUNT = 128;
const ENTRY_BYTES = 128;

/** Both ends of a disk with a GPT, as bytes. Source: UEFI 2.10, 5.2.3, 5.3.2, 5.3.3. */
export function gptEnds(spec: GptSpec): { readonly start: Buffer; readonly end: Buffer } {
  const { sectorBytes } = spec;
  const entries = entriesOf(spec.partitions);
  const tableSectors = entries.length / sectorBytes;
  const last = Math.floor(spec.sizeBytes / sectorBytes) - 1;
  const mbr = Buffer.alloc(sectorBytes);
  mbr.writeUInt8(0xee, 446 + 4);
  mbr.writeUInt16LE(0xaa55, 510);
  const first = headerOf(spec, { sector: 1, other: last, entriesSector: 2, entries });
  const second = headerOf(spec, { sector: last, other: 1, entriesSector: last - tableSectors, entries });
  return { start: Buffer.concat([mbr, first, entries]), end: Buffer.concat([entries, second]) };
}

function headerOf(
  { sizeBytes, sectorBytes, disk = 1 }: GptSpec,
  place: { readonly sector: number; readonly other: number; readonly entriesSector: number; readonly entries: Buffer },
): Buffer {
  const header = Buffer.alloc(sectorBytes);
  const tableSectors = place.entries.length / sectorBytes;
  header.write('EFI PART', 'latin1');
  header.writeUInt32LE(0x10000, 8);
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(BigInt(place.sector), 24);
  header.writeBigUInt64LE(BigInt(place.other), 32);
  header.writeBigUInt64LE(BigInt(2 + tableSectors), 40);
  header.writeBigUInt64LE(BigInt(Math.floor(sizeBytes / sectorBytes) - 2 - tableSectors), 48);
  header.writeUInt8(disk, 56);
  header.writeBigUInt64LE(BigInt(place.entriesSector), 72);
  header.writeUInt32LE(ENTRY_COUNT, 80);
  header.writeUInt32LE(ENTRY_BYTES, 84);
  header.writeUInt32LE(crc32(place.entries), 88);
  return sumHeader(header);
}

/** Puts the checksum of a header right. */
export function sumHeader(header: Buffer): Buffer {
  header.writeUInt32LE(0, 16);
  header.writeUInt32LE(crc32(header.subarray(0, header.readUInt32LE(12))), 16);
  return header;
}

function entriesOf(partitions: readonly GptPartition[]): Buffer {
  const entries = Buffer.alloc(ENTRY_COUNT * ENTRY_BYTES);
  for (const { number, startSector, endSector, label } of partitions) {
    const entry = entries.subarray((number - 1) * ENTRY_BYTES, number * ENTRY_BYTES);
    entry.fill(0xaf, 0, 16);
    entry.writeBigUInt64LE(BigInt(startSector), 32);
    entry.writeBigUInt64LE(BigInt(endSector), 40);
    entry.write(label, 56, 72, 'utf16le');
  }
  return entries;
}
