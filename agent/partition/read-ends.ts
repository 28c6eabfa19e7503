import { type FileHandle, open } from 'node:fs/promises';
import { type DiskEnds, type FoundTable, readEntries, readHeader, readMbr } from './gpt.ts';

/** Logical sector sizes of disks. The place of a table depends on the size that it was made for. */
const SECTOR_SIZES = [512, 4096] as const;

/** Looks for partition tables at both ends of a disk, for sectors of each size. Reads some sectors, writes nothing. */
export async function readEnds(
  device: string,
  { sizeBytes, sectorBytes }: { readonly sizeBytes: number; readonly sectorBytes: number },
): Promise<DiskEnds> {
  await using file = await open(device, 'r');
  // The disk's own sector size comes first: the kernel uses that table.
  const sizes = SECTOR_SIZES.toSorted((a, b) => Number(b === sectorBytes) - Number(a === sectorBytes));
  const lastSector = (size: number): number => Math.floor(sizeBytes / size) - 1;
  const first = await firstFound(sizes, async (size) => await readTable(file, { sector: 1, sectorBytes: size }));
  const atEnd = await firstFound(sizes, async (size) => await readTable(file, { sector: lastSector(size), sectorBytes: size }));
  return { mbr: readMbr(await read(file, 0, 512)), first, last: atEnd.kind === 'absent' ? await otherOf(file, first) : atEnd };
}

/** On a disk that has grown, the first table says where the second one is. */
async function otherOf(file: FileHandle, first: FoundTable): Promise<FoundTable> {
  if (first.kind !== 'sound') return { kind: 'absent' };
  const { otherSector, sectorBytes } = first.header;
  return Number.isSafeInteger(otherSector * sectorBytes) ? await readTable(file, { sector: otherSector, sectorBytes }) : { kind: 'absent' };
}

async function firstFound(sizes: readonly number[], look: (size: number) => Promise<FoundTable>): Promise<FoundTable> {
  for (const size of sizes) {
    const found = await look(size);
    if (found.kind !== 'absent') return found;
  }
  return { kind: 'absent' };
}

async function readTable(file: FileHandle, place: { readonly sector: number; readonly sectorBytes: number }): Promise<FoundTable> {
  const { sectorBytes } = place;
  const header = readHeader(await read(file, place.sector * sectorBytes, sectorBytes), place);
  if (header === undefined) return { kind: 'absent' };
  if (typeof header === 'string') return { kind: 'damaged', sectorBytes, fault: header };
  const { entries } = header;
  const partitions = readEntries(await read(file, entries.sector * sectorBytes, entries.count * entries.bytes), header);
  return typeof partitions === 'string' ? { kind: 'damaged', sectorBytes, fault: partitions } : { kind: 'sound', header, partitions };
}

/** Reads from an offset; returns fewer bytes at the end of the disk, and none outside of it. */
async function read(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  if (offset < 0 || !Number.isSafeInteger(offset)) return Buffer.alloc(0);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, offset);
  return buffer.subarray(0, bytesRead);
}
