import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { createArchivePool } from '../../agent/extract/pool.ts';
import { nodeInflater } from '../../agent/extract/raw-inflate.ts';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import type { ErrorRecord } from '../../agent/model/errors.ts';
import { deflatedBomb, NAME, peakMiB, rejection, unpack, workDirectory } from '../support/archive-jobs.ts';
import { gzipMember, layoutEntries, makeLayout, paxEntry, tarEntry, tarStream, tgz } from '../support/tar.ts';

const REMEDY = 'Write the archive again at the factory';
/** What a thread may take for a bomb: 34 MiB were measured, 43 where the bomb starts harmless. */
const LIMIT_MIB_PER_THREAD = 60;
const BOMB = { threads: 3, zeroMiB: 512 };
const hex = 'c'.repeat(64);
const bombed = process.env.PRESTAGE_TEST_BOMB;

/** A blob of so many MiB of zeros, in about a thousandth of that. The trailer is wrong: nothing gets that far. */
function blobBomb(zeroMiB: number, head: Buffer = Buffer.alloc(0)): Buffer {
  const header = tarEntry({ name: `${NAME}/${hex}`, size: head.length + zeroMiB * 2 ** 20 });
  return gzipMember(deflatedBomb(Buffer.concat([header, head]), zeroMiB), { crc: 0, lengthBytes: 0 });
}

if (bombed === undefined) {
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

    for (const [title, head] of [
      ['in a blob', Buffer.alloc(0)],
      ['in a blob that starts with random bytes', randomBytes(2 ** 20)],
    ] as const) {
      it(`${title} costs ${BOMB.threads} threads at most ${LIMIT_MIB_PER_THREAD} MiB each`, async (test) => {
        await using work = await workDirectory();
        const path = await work.archive(blobBomb(BOMB.zeroMiB, head));
        const said: unknown = JSON.parse(
          await output(execOnLinux, process.execPath, [import.meta.filename], { env: { PRESTAGE_TEST_BOMB: path } }),
        );
        assert.ok(isReport(said));
        test.diagnostic(`${said.idleMiB} MiB idle, ${said.peakMiB} MiB at the peak`);
        assert.deepEqual(said.refusal, {
          code: 'ERR_ARCHIVE_DIGEST',
          message: `${path}: blob sha256:${hex} has the bytes of ${await zerosDigest(head, BOMB.zeroMiB)}`,
          remedy: REMEDY,
        });
        assert.ok(said.peakMiB - said.idleMiB < LIMIT_MIB_PER_THREAD * BOMB.threads);
      });
    }

    it('in a blob is read with node:zlib, too', async () => {
      await using work = await workDirectory();
      const path = await work.archive(blobBomb(64));
      const refusal = await rejection(unpack({ path, to: await work.empty() }, nodeInflater('a test asked for it')));
      assert.deepEqual(refusal, {
        code: 'ERR_ARCHIVE_DIGEST',
        message: `${path}: blob sha256:${hex} has the bytes of ${await zerosDigest(Buffer.alloc(0), 64)}`,
        remedy: REMEDY,
      });
    });
  });
} else {
  await using pool = createArchivePool({ size: BOMB.threads, log: () => undefined });
  const job = { path: bombed, name: NAME, architecture: 'amd64', writeBlobs: [], to: '/nonexistent' };
  const onEach = (act: () => Promise<unknown>): Promise<readonly ErrorRecord[]> =>
    Promise.all(Array.from({ length: BOMB.threads }, () => rejection(act())));
  await onEach(() => pool.survey({ ...job, path: '/nonexistent' }));
  const idleMiB = peakMiB();
  const [refusal] = await onEach(() => pool.unpack(job));
  console.log(JSON.stringify({ idleMiB: Math.round(idleMiB), peakMiB: Math.round(peakMiB()), refusal }));
}

interface Report {
  readonly idleMiB: number;
  readonly peakMiB: number;
  readonly refusal: unknown;
}

function isReport(value: unknown): value is Report {
  return typeof value === 'object' && value !== null && 'idleMiB' in value && 'peakMiB' in value && 'refusal' in value;
}

async function zerosDigest(head: Buffer, mebibytes: number): Promise<string> {
  const hash = createHash('sha256').update(head);
  const zeros = Buffer.alloc(2 ** 20);
  for (let rest = mebibytes; rest > 0; rest--) hash.update(zeros);
  return `sha256:${hash.digest('hex')}`;
}
