import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { nodeInflater } from '../../agent/extract/raw-inflate.ts';
import { deflatedBomb, NAME, rejection, unpack, workDirectory } from '../support/archive-jobs.ts';
import { BOMB_HEX, blobBomb, zerosDigest } from '../support/bomb.ts';
import { gzipMember, layoutEntries, makeLayout, paxEntry, tarStream, tgz } from '../support/tar.ts';

const REMEDY = 'Write the archive again at the factory';

describe('a gzip bomb', () => {
  for (const [title, head] of [
    ['behind the end of the tar', tarStream([...layoutEntries(NAME, makeLayout().files)])],
    ['in place of a tar', Buffer.alloc(512)],
  ] as const) {
    it(`of zeros ${title} is refused after 16 MiB`, async () => {
      await using work = await workDirectory();
      const path = await work.archive(gzipMember(deflatedBomb(head, 16_384), { crc: 0, lengthBytes: 0 }));
      assert.deepEqual(await rejection(unpack({ path, to: await work.empty() })), {
        code: 'ERR_ARCHIVE_PADDING',
        message: `${path}: holds more than 16777216 bytes outside its members`,
        remedy: REMEDY,
      });
    });
  }

  it('of extended headers is refused after 16 MiB', async () => {
    await using work = await workDirectory();
    const header = paxEntry({ comment: 'x'.repeat(2 ** 20) });
    const path = await work.archive(tgz(Array.from({ length: 20 }, () => header)));
    assert.deepEqual(await rejection(unpack({ path, to: await work.empty() })), {
      code: 'ERR_ARCHIVE_PADDING',
      message: `${path}: holds more than 16777216 bytes outside its members`,
      remedy: REMEDY,
    });
  });

  it('in a blob is read with node:zlib, too', async () => {
    await using work = await workDirectory();
    const path = await work.archive(blobBomb(64));
    const refusal = await rejection(unpack({ path, to: await work.empty() }, nodeInflater('a test asked for it')));
    assert.deepEqual(refusal, {
      code: 'ERR_ARCHIVE_DIGEST',
      message: `${path}: blob sha256:${BOMB_HEX} has the digest ${zerosDigest(Buffer.alloc(0), 64)}`,
      remedy: REMEDY,
    });
  });
});
