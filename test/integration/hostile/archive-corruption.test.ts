import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { errorRecord, errorTable } from '../../../agent/model/errors.ts';
import { filesOf, inflaters, rejection, survey, unpack, type WorkDirectory, workDirectory } from '../../support/archive-jobs.ts';
import { realArchive } from '../../support/real-archive.ts';

const SEEDS_PER_KIND = 120;
const NAMES = { one: 'one_latest', two: 'two_latest' };

/** Numbers of a seed: the same ones at every run. Source: mulberry32, Tommy Ettinger, public domain. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Corrupt = (whole: Buffer, other: Buffer, random: (below: number) => number) => Buffer;

const kinds: Readonly<Record<string, Corrupt>> = {
  'a flipped bit': (whole, _, random) => {
    const bytes = Buffer.from(whole);
    const at = random(bytes.length);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random(8)), at);
    return bytes;
  },
  'a flipped bit in the first or last 32 bytes': (whole, _, random) => {
    const bytes = Buffer.from(whole);
    const at = random(64);
    const offset = at < 32 ? at : bytes.length - 64 + at;
    bytes.writeUInt8(bytes.readUInt8(offset) ^ (1 << random(8)), offset);
    return bytes;
  },
  truncation: (whole, _, random) => whole.subarray(0, random(whole.length)),
  'a block of zeros': (whole, _, random) => Buffer.from(whole).fill(0, ...blockOf(whole, random)),
  "a block of another archive's": (whole, other, random) => {
    const [from, to] = blockOf(whole, random);
    return Buffer.concat([whole.subarray(0, from), other.subarray(from, to), whole.subarray(to)]);
  },
};

/** A range of 512-byte blocks within the file, as a disk would lose them. */
function blockOf(whole: Buffer, random: (below: number) => number): [number, number] {
  const from = 512 * random(Math.ceil(whole.length / 512));
  return [from, Math.min(from + 512 * (1 + random(8)), whole.length)];
}

describe('a corrupted archive is refused, or gives what the whole one gives', () => {
  let work: WorkDirectory;
  let archives: { readonly one: Buffer; readonly two: Buffer };
  let whole: Map<string, Buffer>;
  before(async () => {
    work = await workDirectory();
    archives = { one: await realArchive(work.path, NAMES.one, 1), two: await realArchive(work.path, NAMES.two, 2) };
    const to = await work.empty();
    await unpack({ ...(await jobFor(archives.one, 'whole')), to });
    whole = await filesOf(to);
  });
  after(async () => await work[Symbol.asyncDispose]());

  for (const { title, inflater } of inflaters) {
    for (const [kind, corrupt] of Object.entries(kinds)) {
      it(`${kind}, ${SEEDS_PER_KIND} seeds, inflated with ${title}`, async (test) => {
        const outcomes = { refused: 0, equal: 0 };
        for (let seed = 1; seed <= SEEDS_PER_KIND; seed++) {
          const bytes = corrupt(archives.one, archives.two, randomOf(seed));
          const to = await work.empty();
          const unpacking = unpack({ ...(await jobFor(bytes, 'corrupt')), to, writeBlobs: blobs(whole) }, inflater);
          const refusal = await unpacking.then(() => undefined, errorRecord);
          if (refusal === undefined) assert.deepEqual(await filesOf(to), whole, `seed ${seed}`);
          else assert.equal(errorTable[refusal.code].exit, 'payload', `seed ${seed}: ${refusal.message}`);
          outcomes[refusal === undefined ? 'equal' : 'refused'] += 1;
        }
        test.diagnostic(`${outcomes.refused} refused, ${outcomes.equal} gave the same bytes`);
        // Time, operating system and flags of the gzip header and the padding before a stored block carry no content.
        const passing = kind.startsWith('a flipped bit') ? SEEDS_PER_KIND / 4 : 0;
        assert.ok(outcomes.equal <= passing, `${outcomes.equal} seeds passed`);
      });
    }
  }

  it('two archives of equal size that were swapped', async () => {
    const length = Math.max(archives.one.length, archives.two.length) + 1;
    const [one, two] = [padded(archives.one, length), padded(archives.two, length)];
    assert.equal(one.length, two.length);
    const own = await work.archive(one, NAMES.one);
    assert.equal((await unpack({ path: own, name: NAMES.one, to: await work.empty() })).blobs, 3);
    const path = await work.archive(two, NAMES.one);
    const refusal = {
      code: 'ERR_ARCHIVE_TOP',
      message: `${path}: member "${NAMES.two}/" is outside the directory "${NAMES.one}"`,
      remedy: 'Write the archive again at the factory',
    };
    assert.deepEqual(await rejection(survey({ path, name: NAMES.one })), refusal);
    assert.deepEqual(await rejection(unpack({ path, name: NAMES.one, to: await work.empty() })), refusal);
  });

  async function jobFor(bytes: Buffer, file: string): Promise<{ path: string; name: string; writeBlobs: ReturnType<typeof blobs> }> {
    const path = await work.archive(bytes, file);
    const layers = file === 'whole' ? (await survey({ path, name: NAMES.one })).image.layers.map(({ digest }) => digest) : [];
    return { path, name: NAMES.one, writeBlobs: layers };
  }
});

/** The same gzip member with a comment in its header, which makes it as long as asked for. */
function padded(gzip: Buffer, length: number): Buffer {
  const header = Buffer.from(gzip.subarray(0, 10));
  header.writeUInt8(16, 3);
  return Buffer.concat([header, Buffer.alloc(length - gzip.length - 1, 'x'), Buffer.alloc(1), gzip.subarray(10)]);
}

function blobs(files: ReadonlyMap<string, Buffer>): readonly ReturnType<typeof digestOf>[] {
  return [...files.values()].map(digestOf).filter((digest) => files.has(hexOf(digest)));
}
