import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { walkTar } from '../../../agent/tree/walk-tar.ts';
import { rejection } from '../../support/archive-jobs.ts';

async function workFor(test: TestContext): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'mirror-walk-'));
  test.after(() => rm(work, { recursive: true }));
  return work;
}

async function walk(path: string): Promise<readonly (readonly [string, string])[]> {
  const seen: (readonly [string, string])[] = [];
  for await (const { header, read } of walkTar(path)) if (header.type === 'file') seen.push([header.name, (await read()).toString()]);
  return seen;
}

for (const format of ['gnu', 'posix', 'ustar']) {
  test(`the headers of a tar file are read as GNU tar writes them in the format ${format}`, async (t) => {
    const work = await workFor(t);
    const names = ['short', `${'d'.repeat(90)}/${'f'.repeat(90)}`];
    await mkdir(join(work, 'd'.repeat(90)));
    for (const name of names) await writeFile(join(work, name), name);
    await output(execOnLinux, 'tar', [`--format=${format}`, '-cf', 'x.tar', ...names], { cwd: work });
    assert.deepEqual(
      await walk(join(work, 'x.tar')),
      names.map((name) => [name, name]),
    );
  });
}

test('a fifo in the place of a tar file is refused', async (t) => {
  const fifo = join(await workFor(t), 'fifo');
  await output(execOnLinux, 'mkfifo', [fifo]);
  assert.equal((await rejection(walk(fifo))).code, 'ERR_ARCHIVE_READ');
});
