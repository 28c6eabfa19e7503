import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { truncateSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { type ArchivePool, createArchivePool } from '../../../agent/extract/pool.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { StorePieces } from '../../../agent/model/bundle.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { copyImage } from '../../../agent/mount/copy-image.ts';
import { passPieces } from '../../../agent/mount/pieces.ts';
import type { StoreImage } from '../../../agent/mount/store-image.ts';
import { inOwnMounts } from '../../support/own-mounts.ts';
import { piecesOf } from '../../support/pieces.ts';
import { flipByte } from '../../support/store-bundle.ts';

inOwnMounts(import.meta.url);

const KIB = 1024;
const SIZE_BYTES = 3 * KIB * KIB + 17;
const PIECE_BYTES = 256 * KIB;
const PIECES = 13;
const REMEDY = 'Write the bundle to the partition again; prestage-agent verify --full shows what else is damaged';

describe('a store image whose pieces are known', () => {
  let work: string;
  let pool: ArchivePool;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'pieces-'));
    pool = createArchivePool({ size: 2, log: () => undefined });
  });
  after(async () => {
    await pool[Symbol.asyncDispose]();
    await rm(work, { recursive: true });
  });

  it('is copied with every byte in its place, whatever its size and that of its pieces', async () => {
    const sizes = fc.oneof(fc.constantFrom(0, 1, 4096, 256 * KIB, 256 * KIB + 1), fc.nat({ max: 700 * KIB }));
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 3 * KIB, max: 800 * KIB }), fc.boolean(), async (sizeBytes, pieceBytes, isDurable) => {
        const { image, bytes } = await makeImage({ sizeBytes, pieceBytes });
        const { to, progress } = await copy(image, { isDurable });
        assert.equal((await readFile(to)).equals(bytes), true);
        assert.equal(progress.at(-1), sizeBytes);
        assert.deepEqual(
          progress,
          progress.toSorted((a, b) => a - b),
        );
      }),
      { numRuns: 25 },
    );
  });

  it('is hashed without a copy, and nothing is written', async () => {
    const { image } = await makeImage();
    const before = await stat(image.path);
    await hashOnly(image);
    assert.deepEqual([(await stat(image.path)).mtimeMs, await readdir(join(image.path, '..'))], [before.mtimeMs, ['image']]);
  });

  it('is worked at in four threads at most, however many there are: each takes memory', async () => {
    const { image } = await makeImage();
    const counted = { now: 0, most: 0 };
    const counting: Pick<ArchivePool, 'copyPieces'> = {
      copyPieces: async (job, options) => {
        counted.most = Math.max(counted.most, ++counted.now);
        const piece = await pool.copyPieces(job, options);
        counted.now--;
        return piece;
      },
    };
    await hashOnly(image, counting);
    assert.deepEqual(counted, { now: 0, most: 4 });
  });

  for (const [nth, at] of [
    [0, 0],
    [6, 6 * PIECE_BYTES],
    [PIECES - 1, (PIECES - 1) * PIECE_BYTES],
  ] as const) {
    it(`is refused for another byte in piece ${nth + 1} of ${PIECES}, which is named, and no copy stays`, async () => {
      const { image } = await makeImage();
      const wanted = image.pieces.sha256[nth];
      await flipByte(image.path, SIZE_BYTES - at);
      const bytes = await readFile(image.path);
      const got = sha256Of(bytes.subarray(at, at + PIECE_BYTES));
      const expected = {
        code: 'ERR_STORE_DIGEST',
        message: `the store image ${image.path} does not match its bundle: its piece at byte ${at} has the sha256 ${got}, but should have ${wanted}`,
        remedy: REMEDY,
      };
      assert.deepEqual(await refusedCopy(image), expected);
      assert.deepEqual(await refusal(hashOnly(image)), expected);
    });
  }

  for (const [what, change] of [
    ['one piece too few', ({ sizeBytes, sha256 }) => ({ sizeBytes, sha256: sha256.slice(0, -1) })],
    ['one piece too many', ({ sizeBytes, sha256 }) => ({ sizeBytes, sha256: [...sha256, sha256Of(Buffer.alloc(0))] })],
    ['no piece', ({ sizeBytes }) => ({ sizeBytes, sha256: [] })],
    ['pieces of half the size', ({ sizeBytes, sha256 }) => ({ sizeBytes: sizeBytes / 2, sha256 })],
    ['pieces that are larger than it', ({ sha256 }) => ({ sizeBytes: 2 * SIZE_BYTES, sha256 })],
  ] as const satisfies readonly (readonly [string, (pieces: StorePieces) => StorePieces])[]) {
    it(`is refused before a byte is read where its bundle has ${what}, and no copy stays`, async () => {
      const { image } = await makeImage();
      const pieces = change(image.pieces);
      const expected = {
        code: 'ERR_STORE_DIGEST',
        message: `the store image ${image.path} has ${SIZE_BYTES} bytes, but its bundle lists ${pieces.sha256.length} pieces of ${pieces.sizeBytes} bytes`,
        remedy: REMEDY,
      };
      assert.deepEqual(await refusedCopy({ ...image, pieces }), expected);
      const unread: Pick<ArchivePool, 'copyPieces'> = { copyPieces: async () => assert.fail('a piece was read') };
      assert.deepEqual(await refusal(hashOnly({ ...image, pieces }, unread)), expected);
    });
  }

  it('is refused where the same pieces come in another order', async () => {
    const { image } = await makeImage();
    const [first = '', second = '', ...rest] = image.pieces.sha256;
    const swapped = { ...image, pieces: { ...image.pieces, sha256: [second, first, ...rest] } };
    assert.equal((await refusedCopy(swapped)).code, 'ERR_STORE_DIGEST');
  });

  for (const [what, change, message] of [
    ['cut off', async (path: string) => await truncate(path, 4096), 'it now has 4096 bytes, but had 3145745'],
    ['longer', async (path: string) => await appendFile(path, 'x'), 'it now has 3145746 bytes, but had 3145745'],
    ['gone', async (path: string) => await rm(path), 'it does not exist'],
  ] as const) {
    it(`is refused where it is ${what} when it is to be copied, and no copy stays`, async () => {
      const { image } = await makeImage();
      let changed: Promise<void> | undefined;
      const changing: Pick<ArchivePool, 'copyPieces'> = {
        copyPieces: async (job, options) => {
          changed ??= change(image.path);
          await changed;
          return await pool.copyPieces(job, options);
        },
      };
      assert.deepEqual(await refusedCopy(image, { pool: { ...pool, ...changing } }), {
        code: 'ERR_BUNDLE_FILE',
        message: `${image.path} cannot be read: ${message}`,
        remedy: 'Write the bundle again; if it fails again, replace the disk',
      });
    });
  }

  for (const [what, sizeBytes, message] of [
    ['cut off', 4096, /^it now (?:ends after \d+ bytes|has 4096 bytes), but had 1073741824$/],
    ['longer', 2 ** 30 + 1, /^it now has 1073741825 bytes, but had 1073741824$/],
  ] as const) {
    it(`is refused where it is ${what} while it is read`, async () => {
      const path = join(await mkdtemp(join(work, 'from-')), 'image');
      await writeFile(path, '');
      await truncate(path, 2 ** 30);
      const zeros = sha256Of(Buffer.alloc(2 ** 20));
      const pieces: StorePieces = { sizeBytes: 2 ** 20, sha256: Array.from({ length: 1024 }, () => zeros) };
      const image = { path, sizeBytes: 2 ** 30, sha256: '', pieces, hashTree: '', hashTreeSizeBytes: 0, rootHash: '' };
      const changing: Pick<ArchivePool, 'copyPieces'> = {
        copyPieces: async (job, options) => {
          const copying = pool.copyPieces(job, options);
          while (Atomics.load(job.next, 0) < 2) await sleep(1);
          truncateSync(path, sizeBytes);
          return await copying;
        },
      };
      const error = await refusal(hashOnly(image, changing));
      assert.equal(error.code, 'ERR_BUNDLE_FILE');
      assert.match(error.message.replace(`${path} cannot be read: `, ''), message);
    });
  }

  it('leaves no copy where the room ends in the middle', async () => {
    const { image } = await makeImage();
    const small = join(work, 'small');
    await mkdir(small);
    await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small]);
    try {
      assert.deepEqual(await refusedCopy(image, { directory: small }), {
        code: 'ERR_SPACE_STORE',
        message: `the copy of the store image ${join(small, 'copy.partial')} cannot be written: no space left`,
        remedy: 'Free space below /var/lib/prestage-agent, or give --placement partition',
      });
    } finally {
      await output(execOnLinux, 'umount', [small]);
    }
  });

  it('is given up with the reason of the signal, and no copy stays', async () => {
    const { image } = await makeImage({ sizeBytes: 40 * KIB * KIB, pieceBytes: 2 * KIB * KIB });
    const reason = new Error('the run ends');
    for (const afterMs of [0, 2, 5, 10, 20]) {
      const ending = new AbortController();
      const directory = await mkdtemp(join(work, 'to-'));
      const to = join(directory, 'copy');
      const copying = copyImage({ image, to, isDurable: false, pool, signal: ending.signal, onProgress: () => undefined });
      setTimeout(() => ending.abort(reason), afterMs);
      const thrown = await copying.catch((error: unknown) => error);
      // A fast machine has copied all before the end of the longer ones.
      if (thrown === undefined) assert.deepEqual([await readdir(directory), afterMs > 5], [['copy'], true]);
      else assert.deepEqual([thrown, await readdir(directory)], [reason, []]);
    }
    await hashOnly(image);
  });

  it('takes the place of what a copy that was killed has left', async () => {
    const { image, bytes } = await makeImage();
    const directory = await mkdtemp(join(work, 'to-'));
    await writeFile(join(directory, 'copy.partial'), Buffer.alloc(2 * SIZE_BYTES, 1));
    const { to } = await copy(image, { directory });
    assert.deepEqual([(await readFile(to)).equals(bytes), await readdir(directory)], [true, ['copy']]);
  });

  async function makeImage({ sizeBytes = SIZE_BYTES, pieceBytes = PIECE_BYTES } = {}) {
    const path = join(await mkdtemp(join(work, 'from-')), 'image');
    const bytes = randomBytes(sizeBytes);
    await writeFile(path, bytes);
    const pieces = piecesOf(bytes, pieceBytes);
    return {
      image: { path, sizeBytes, sha256: sha256Of(bytes), pieces, hashTree: `${path}.verity`, hashTreeSizeBytes: 0, rootHash: '' },
      bytes,
    };
  }

  interface CopyOptions {
    readonly directory?: string;
    readonly isDurable?: boolean;
    readonly pool?: ArchivePool;
  }

  async function copy(image: StoreImage, options: CopyOptions = {}) {
    const to = join(options.directory ?? (await mkdtemp(join(work, 'to-'))), 'copy');
    const progress: number[] = [];
    const { signal } = new AbortController();
    const onProgress = (bytes: number): void => void progress.push(bytes);
    await copyImage({ image, to, isDurable: options.isDurable ?? false, pool: options.pool ?? pool, signal, onProgress });
    return { to, progress };
  }

  /** Copies what must not be copied. */
  async function refusedCopy(image: StoreImage, options: CopyOptions = {}) {
    const directory = options.directory ?? (await mkdtemp(join(work, 'to-')));
    const error = await refusal(copy(image, { ...options, directory }));
    assert.deepEqual(await readdir(directory), []);
    return error;
  }

  async function hashOnly(image: StoreImage & { readonly pieces: StorePieces }, of: Pick<ArchivePool, 'copyPieces'> = pool): Promise<void> {
    const { signal } = new AbortController();
    await passPieces({ image, pieces: image.pieces, from: image.path, pool: of, signal, onProgress: () => undefined });
  }
});

async function refusal(work: Promise<unknown>) {
  return errorRecord(
    await work.then(
      () => assert.fail('it was not refused'),
      (error: unknown) => error,
    ),
  );
}

function sha256Of(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
