import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type FoundTable, judgeEnds, readEntries, readHeader, readMbr } from '../../agent/partition/gpt.ts';
import { gptEnds, sumHeader } from '../support/gpt.ts';

const SIZE = 1024 * 1024;

/** Both ends of a disk with a table of which some bytes are others; some headers have their checksum put right afterwards. */
export const oddDiskEnds = fc
  .record({
    sectorBytes: fc.constantFrom(512, 4096),
    partitions: fc.uniqueArray(
      fc.record({
        number: fc.integer({ min: 1, max: 128 }),
        startSector: fc.nat(300),
        endSector: fc.nat(300),
        label: fc.string({ maxLength: 36 }),
      }),
      { maxLength: 5, selector: ({ number }) => number },
    ),
    pokes: fc.array(
      fc.record({
        isAtEnd: fc.boolean(),
        isInHeader: fc.boolean(),
        at: fc.nat(20_000),
        bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
      }),
      {
        maxLength: 4,
      },
    ),
    isSummed: fc.boolean(),
    isWiped: fc.constantFrom('no', 'start', 'end', 'both', 'MBR'),
    diskSectorBytes: fc.constantFrom(512, 4096),
  })
  .map(({ sectorBytes, partitions, pokes, isSummed, isWiped, diskSectorBytes }) => {
    const { start, end } = gptEnds({ sizeBytes: SIZE, sectorBytes, partitions });
    const headers = { start: start.subarray(sectorBytes, 2 * sectorBytes), end: end.subarray(end.length - sectorBytes) };
    for (const { isAtEnd, isInHeader, at, bytes } of pokes) {
      const target = isInHeader ? headers[isAtEnd ? 'end' : 'start'] : isAtEnd ? end : start;
      // In a header, the fields of its first 92 bytes are what decides.
      Buffer.from(bytes).copy(target, at % (isInHeader ? 92 : target.length));
    }
    if (isSummed) for (const header of Object.values(headers)) if (header.readUInt32LE(12) <= header.length) sumHeader(header);
    if (isWiped === 'start' || isWiped === 'both') start.fill(0);
    if (isWiped === 'end' || isWiped === 'both') end.fill(0);
    if (isWiped === 'MBR') start.fill(0, 0, 512);
    return { start, end, sectorBytes, diskSectorBytes, isBlank: [start, end].every(isZero) };
  });

type OddDiskEnds = typeof oddDiskEnds extends fc.Arbitrary<infer T> ? T : never;

/** Only a disk that shows nothing passes for a blank one, and only a table that is whole at both ends for a sound one. */
export function judgeOddEnds(odd: OddDiskEnds): void {
  const { sectorBytes, diskSectorBytes } = odd;
  const tableOf = (bytes: Buffer, entries: Buffer, sector: number): FoundTable => {
    const header = readHeader(bytes, { sector, sectorBytes });
    if (header === undefined) return { kind: 'absent' };
    if (typeof header === 'string') return { kind: 'damaged', sectorBytes, fault: header };
    const partitions = readEntries(entries, header);
    return typeof partitions === 'string' ? { kind: 'damaged', sectorBytes, fault: partitions } : { kind: 'sound', header, partitions };
  };
  const first = tableOf(odd.start.subarray(sectorBytes, 2 * sectorBytes), odd.start.subarray(2 * sectorBytes), 1);
  const last = tableOf(odd.end.subarray(odd.end.length - sectorBytes), odd.end, SIZE / sectorBytes - 1);
  const mbr = readMbr(odd.start.subarray(0, 512));
  const { kind, damage } = judgeEnds({ mbr, first, last }, diskSectorBytes);
  assert.equal(kind === 'none', mbr === 'none' && first.kind === 'absent' && last.kind === 'absent');
  if (odd.isBlank) assert.equal(kind, 'none');
  if (kind === 'gpt' && damage === undefined)
    assert.deepEqual([mbr, first.kind, last.kind, sectorBytes], ['protective', 'sound', 'sound', diskSectorBytes]);
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}
