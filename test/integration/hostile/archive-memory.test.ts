import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { it } from 'node:test';
import { createArchivePool } from '../../../agent/extract/pool.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { ErrorRecord } from '../../../agent/model/errors.ts';
import { NAME, peakMiB, rejection, workDirectory } from '../../support/archive-jobs.ts';
import { BOMB_HEX, blobBomb, zerosDigest } from '../../support/bomb.ts';

const REMEDY = 'Write the archive again at the factory';
/** What a thread may take for a bomb: 34 MiB were measured, 43 where the bomb starts harmless. */
const LIMIT_MIB_PER_THREAD = 60;
const BOMB = { threads: 3, zeroMiB: 512 };
/** Set in the process of its own that reads a bomb, so that its memory is not that of the test. */
const bombed = process.env.PRESTAGE_TEST_BOMB;

if (bombed === undefined) {
  for (const [title, head] of [
    ['in a blob', Buffer.alloc(0)],
    ['in a blob that starts with random bytes', randomBytes(2 ** 20)],
  ] as const) {
    it(`a gzip bomb ${title} costs ${BOMB.threads} threads at most ${LIMIT_MIB_PER_THREAD} MiB each`, async (test) => {
      await using work = await workDirectory();
      const path = await work.archive(blobBomb(BOMB.zeroMiB, head));
      const said: unknown = JSON.parse(
        await output(execOnLinux, process.execPath, [import.meta.filename], { env: { PRESTAGE_TEST_BOMB: path } }),
      );
      assert.ok(isReport(said));
      test.diagnostic(`${said.idleMiB} MiB idle, ${said.peakMiB} MiB at the peak`);
      assert.deepEqual(said.refusal, {
        code: 'ERR_ARCHIVE_DIGEST',
        message: `${path}: blob sha256:${BOMB_HEX} has the digest ${zerosDigest(head, BOMB.zeroMiB)}`,
        remedy: REMEDY,
      });
      assert.ok(said.peakMiB - said.idleMiB < LIMIT_MIB_PER_THREAD * BOMB.threads);
    });
  }
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
