import assert from 'node:assert/strict';
import { mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { walkTar } from '../../../agent/tree/walk-tar.ts';
import { rejection } from '../../support/archive-jobs.ts';
import { mirrorEntry } from '../../support/mirror-archives.ts';
import { base256, paxEntry, tarEntry, tarStream } from '../../support/tar.ts';

interface Seen {
  readonly name: string;
  readonly content: Buffer;
}

async function walk(path: string): Promise<readonly Seen[]> {
  const seen: Seen[] = [];
  for await (const entry of walkTar(path)) {
    if (entry.header.type === 'file') seen.push({ name: entry.header.name, content: await entry.read() });
  }
  return seen;
}

describe('the headers of a tar file', () => {
  let work: string;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mirror-walk-'));
  });
  after(async () => await rm(work, { recursive: true }));
  const file = (): string => join(work, 'x.tar');

  const member = fc.record({
    name: fc.stringMatching(/^[a-z]{1,150}$/),
    content: fc.oneof(
      fc.uint8Array({ maxLength: 1500 }),
      fc.integer({ min: 0, max: 700_000 }).map((size) => new Uint8Array(size).fill(7)),
    ),
  });

  it('law: lead to the bytes of every member, small or large, near or far', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(member, { maxLength: 12 }), async (members) => {
        await writeFile(file(), tarStream(members.map(({ name, content }) => mirrorEntry(name, content))));
        const expected = members.map(({ name, content }) => ({ name, content: Buffer.from(content) }));
        assert.deepEqual(await walk(file()), expected);
      }),
      { numRuns: 60 },
    );
  });

  it('that is empty or compressed is called so', async () => {
    const whole = tarStream([mirrorEntry('a', Buffer.alloc(700, 1))]);
    const cases = [
      [Buffer.alloc(0), 'ERR_ARCHIVE_TRUNCATED', 'the file is empty'],
      [gzipSync(whole), 'ERR_ARCHIVE_TAR', 'it is compressed (gzip), but an uncompressed tar file is expected'],
      [zstdCompressSync(whole), 'ERR_ARCHIVE_TAR', 'it is compressed (zstd), but an uncompressed tar file is expected'],
      [
        Buffer.concat([Buffer.from('BZh9'), Buffer.alloc(600, 1)]),
        'ERR_ARCHIVE_TAR',
        'it is compressed (bzip2), but an uncompressed tar file is expected',
      ],
      [
        Buffer.concat([Buffer.from([0xfd]), Buffer.from('7zXZ\0'), Buffer.alloc(600, 1)]),
        'ERR_ARCHIVE_TAR',
        'it is compressed (xz), but an uncompressed tar file is expected',
      ],
    ] as const;
    for (const [bytes, code, what] of cases) {
      await writeFile(file(), bytes);
      const { code: got, message } = await rejection(walk(file()));
      assert.deepEqual([got, message], [code, `${file()}: ${what}`]);
    }
  });

  it('is cut off between any two blocks, also behind an extended header', async () => {
    const whole = tarStream([paxEntry({ path: 'named/by/pax' }), tarEntry({ name: 'y', content: Buffer.from('1') })]);
    for (let blocks = 1; blocks < whole.length / 512 - 2; blocks++) {
      await writeFile(file(), whole.subarray(0, blocks * 512));
      assert.equal((await rejection(walk(file()))).code, 'ERR_ARCHIVE_TRUNCATED', `${blocks} blocks`);
    }
  });

  it('law: wherever an archive is cut off, that is noticed', async () => {
    const whole = tarStream([mirrorEntry('a', Buffer.alloc(700, 1)), mirrorEntry('b'.repeat(120), Buffer.alloc(9000, 2))]);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 1024 }), async (length) => {
        await writeFile(file(), whole.subarray(0, length));
        assert.equal((await rejection(walk(file()))).code, 'ERR_ARCHIVE_TRUNCATED', `${length} bytes`);
      }),
      { numRuns: 60 },
    );
  });

  it('may be longer than what is read at one time', async () => {
    const long = paxEntry({ comment: 'x'.repeat(1_000_000), path: 'named/by/pax' });
    await writeFile(
      file(),
      tarStream([mirrorEntry('first', Buffer.alloc(600_000)), long, tarEntry({ name: 'y', content: Buffer.from('1') })]),
    );
    assert.deepEqual((await walk(file())).at(-1), { name: 'named/by/pax', content: Buffer.from('1') });
  });

  it('that are none are refused, and so are holes and links in the place of the file', async () => {
    await writeFile(file(), Buffer.alloc(4096, 'x'));
    assert.equal((await rejection(walk(file()))).code, 'ERR_ARCHIVE_TAR');
    await writeFile(file(), tarStream([tarEntry({ name: 'a', content: Buffer.from('1'), size: base256(-512n) })]));
    assert.equal((await rejection(walk(file()))).code, 'ERR_ARCHIVE_SIZE');
    assert.equal((await rejection(walk(join(work, 'nothing')))).code, 'ERR_ARCHIVE_MISSING');
    await symlink(file(), join(work, 'link'));
    assert.equal((await rejection(walk(join(work, 'link')))).code, 'ERR_ARCHIVE_READ');
    await truncate(file(), 0);
    assert.equal((await rejection(walk(file()))).code, 'ERR_ARCHIVE_TRUNCATED');
  });
});
