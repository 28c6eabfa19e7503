import assert from 'node:assert/strict';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { type DiskEnds, type GptHeader, judgeEnds, NO_ENDS, readEntries, readHeader, readMbr } from '../../../agent/partition/gpt.ts';
import { readEnds } from '../../../agent/partition/read-ends.ts';
import { gptEnds, sumHeader } from '../../support/gpt.ts';

const SIZE = 4 * 1024 * 1024;
const PARTITIONS = [
  { number: 1, startSector: 64, endSector: 99, label: 'boot' },
  { number: 5, startSector: 100, endSector: 199, label: "d'été" },
];

let work: string;
before(async () => (work = await mkdtemp(join(tmpdir(), 'gpt-'))));
after(async () => await rm(work, { recursive: true }));

interface Change {
  readonly sectorBytes?: number;
  readonly sizeBytes?: number;
  /** What the kernel takes for the size of a sector; that of the table where left out. */
  readonly diskSectorBytes?: number;
  readonly change?: (ends: { readonly start: Buffer; readonly end: Buffer }) => void;
}

/** Writes a disk with a table to a file, spoils it, and judges what both ends show. */
async function judged({ sectorBytes = 512, sizeBytes = SIZE, diskSectorBytes = sectorBytes, change }: Change = {}) {
  const ends = gptEnds({ sizeBytes: SIZE, sectorBytes, partitions: PARTITIONS });
  change?.(ends);
  const path = join(work, 'disk.img');
  {
    await using file = await open(path, 'w');
    await file.truncate(sizeBytes);
    await file.write(ends.start, 0, ends.start.length, 0);
    await file.write(ends.end, 0, ends.end.length, SIZE - ends.end.length);
  }
  return judgeEnds(await readEnds(path, { sizeBytes, sectorBytes: diskSectorBytes }), diskSectorBytes);
}

const LISTED = `partitions: 1 "boot" (sectors 64 to 99), 5 "d'été" (sectors 100 to 199)`;

describe('the table of a disk, by both of its ends', () => {
  for (const sectorBytes of [512, 4096])
    it(`is whole if both copies are, with sectors of ${sectorBytes} bytes`, async () => {
      assert.deepEqual(await judged({ sectorBytes }), {
        kind: 'gpt',
        damage: undefined,
        partitions: PARTITIONS,
        lastUsableSector: SIZE / sectorBytes - 2 - 16384 / sectorBytes,
      });
    });

  it('is whole if the second copy lies where the first one says: the disk has grown', async () => {
    const { damage, partitions } = await judged({ sizeBytes: 2 * SIZE });
    assert.deepEqual([damage, partitions], [undefined, PARTITIONS]);
  });

  it('is none if nothing lies at either end, and an MBR if there is nothing but that', async () => {
    const blank = { kind: 'none', damage: undefined, partitions: [], lastUsableSector: undefined };
    const wipe = ({ start, end }: { readonly start: Buffer; readonly end: Buffer }) => [start, end].map((bytes) => bytes.fill(0));
    assert.deepEqual(await judged({ change: wipe }), blank);
    const mbr = ({ start, end }: { readonly start: Buffer; readonly end: Buffer }) => {
      wipe({ start, end });
      start.writeUInt8(0x83, 450);
      start.writeUInt16LE(0xaa55, 510);
    };
    assert.deepEqual(await judged({ change: mbr }), { ...blank, kind: 'mbr' });
    assert.deepEqual(judgeEnds(NO_ENDS, 512), blank);
  });

  const damages: readonly (readonly [string, Change, string])[] = [
    [
      'its start is wiped',
      { change: ({ start }) => start.fill(0) },
      `the protective MBR in front of it is missing; start of the disk: no table; end of the disk: a table with 2 partitions; ${LISTED}`,
    ],
    [
      'its end is wiped',
      { change: ({ end }) => end.fill(0) },
      `start of the disk: a table with 2 partitions; end of the disk: no table; ${LISTED}`,
    ],
    [
      'only its protective MBR is left',
      { change: ({ start, end }) => [start.subarray(512), end].map((bytes) => bytes.fill(0)) },
      'start of the disk: no table; end of the disk: no table',
    ],
    [
      'its protective MBR is gone',
      { change: ({ start }) => start.fill(0, 0, 512) },
      `the protective MBR in front of it is missing; ${LISTED}`,
    ],
    [
      'its MBR protects nothing',
      { change: ({ start }) => start.writeUInt8(0x83, 450) },
      `the MBR in front of it has partitions of its own and does not protect it; ${LISTED}`,
    ],
    [
      'its MBR is a hybrid one',
      { change: ({ start }) => start.writeUInt8(0x83, 466) },
      `the MBR in front of it has partitions of its own (a hybrid MBR); ${LISTED}`,
    ],
    [
      'a header has another checksum',
      { change: ({ start }) => start.writeUInt8(9, 512 + 56) },
      `start of the disk: a damaged table (the checksum of its header is wrong); end of the disk: a table with 2 partitions; ${LISTED}`,
    ],
    [
      'the entries have another checksum',
      { change: ({ end }) => end.writeUInt8(9, 200) },
      `start of the disk: a table with 2 partitions; end of the disk: a damaged table (the checksum of its entries is wrong); ${LISTED}`,
    ],
    [
      'the two copies are those of two disks',
      { change: ({ start }) => gptEnds({ sizeBytes: SIZE, sectorBytes: 512, partitions: PARTITIONS, disk: 2 }).start.copy(start) },
      `the tables at the two ends of the disk differ; ${LISTED}`,
    ],
    [
      'it was made for sectors of another size',
      { sectorBytes: 4096, diskSectorBytes: 512 },
      `it was made for sectors of 4096 bytes, but the disk has sectors of 512 bytes; ${LISTED}`,
    ],
    [
      'both copies are damaged',
      { change: ({ start, end }) => [start.writeUInt8(9, 512 + 56), end.writeUInt8(9, end.length - 512 + 56)] },
      'start of the disk: a damaged table (the checksum of its header is wrong); end of the disk: a damaged table (the checksum of its header is wrong)',
    ],
  ];
  for (const [what, change, damage] of damages)
    it(`is damaged, and the disk is not blank, if ${what}`, async () => {
      const found = await judged(change);
      assert.deepEqual([found.kind, found.damage], ['gpt', damage]);
      assert.equal(found.partitions.length, change.diskSectorBytes === undefined && damage.includes(LISTED) ? 2 : 0);
    });

  it('of which many partitions can be read names eight of them', () => {
    const partitions = Array.from({ length: 10 }, (_, index) => ({
      number: index + 1,
      startSector: 64,
      endSector: 65,
      label: '\u001b[2J',
    }));
    const { start } = gptEnds({ sizeBytes: SIZE, sectorBytes: 512, partitions });
    const header = soundHeader(start.subarray(512, 1024));
    const ends: DiskEnds = { ...NO_ENDS, mbr: 'protective', first: { kind: 'sound', header, partitions } };
    const { damage = '' } = judgeEnds(ends, 512);
    assert.deepEqual([damage.match(/"\\u001b\[2J"/g)?.length, damage.endsWith('(sectors 64 to 65), and 2 more')], [8, true]);
    assert.match(
      judgeEnds({ ...ends, first: { kind: 'sound', header, partitions: partitions.slice(0, 1) } }, 512).damage ?? '',
      /a table with 1 partition;/,
    );
  });
});

function soundHeader(bytes: Buffer): GptHeader {
  const header = readHeader(bytes, { sector: 1, sectorBytes: 512 });
  assert.ok(typeof header === 'object');
  return header;
}

describe('a header of a GPT', () => {
  const changed = (act: (header: Buffer) => void) => {
    const header = gptEnds({ sizeBytes: SIZE, sectorBytes: 512, partitions: [] }).start.subarray(512, 1024);
    act(header);
    return readHeader(sumHeader(header), { sector: 1, sectorBytes: 512 });
  };

  it('is refused if it says what cannot be', () => {
    assert.deepEqual(
      [
        changed((header) => header.writeUInt32LE(91, 12)),
        readHeader(Buffer.concat([Buffer.from('EFI PART'), Buffer.alloc(504, 0xff)]), { sector: 1, sectorBytes: 512 }),
        changed((header) => header.writeBigUInt64LE(7n, 24)),
        changed((header) => header.writeUInt32LE(64, 84)),
        changed((header) => header.writeUInt32LE(1_000_000, 80)),
        readHeader(Buffer.alloc(20), { sector: 1, sectorBytes: 512 }),
      ],
      [
        'its header has an impossible size of 91 bytes',
        'its header has an impossible size of 4294967295 bytes',
        'its header is at sector 1, but belongs at sector 7',
        'its header claims an impossible 128 entries of 64 bytes',
        'its header claims an impossible 1000000 entries of 128 bytes',
        undefined,
      ],
    );
  });

  it('whose entries lie beyond the end of the disk has none', () => {
    const header = soundHeader(gptEnds({ sizeBytes: SIZE, sectorBytes: 512, partitions: [] }).start.subarray(512, 1024));
    assert.equal(readEntries(Buffer.alloc(0), header), 'its entries are beyond the end of the disk');
  });

  it('law: any bytes are read to an end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), fc.boolean(), (bytes, isSummed) => {
        const sector = Buffer.concat([Buffer.from('EFI PART'), bytes, Buffer.alloc(512)]).subarray(0, 512);
        if (isSummed && sector.readUInt32LE(12) <= 512) sumHeader(sector);
        const header = readHeader(sector, { sector: 1, sectorBytes: 512 });
        if (typeof header === 'object') readEntries(Buffer.alloc(20_000), header);
        assert.ok(['none', 'mbr', 'hybrid', 'protective'].includes(readMbr(sector)));
      }),
    );
    assert.equal(readMbr(Buffer.alloc(10)), 'none');
  });
});
