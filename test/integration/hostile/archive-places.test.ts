import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { hexOf } from '../../../agent/model/digest.ts';
import { NAME, rejection, survey, unpack, workDirectory } from '../../support/archive-jobs.ts';
import { layoutEntries, makeLayout, tgz } from '../../support/tar.ts';

const { files, layers } = makeLayout();
const valid = tgz(layoutEntries(NAME, files));

for (const [what, program, args] of [
  ['a fifo that nobody writes to', 'mkfifo', []],
  ['a device', 'mknod', ['c', '1', '5']],
] as const) {
  test(`an archive is refused for ${what} at its path`, async () => {
    await using work = await workDirectory();
    const path = join(work.path, `${NAME}.tgz`);
    await output(execOnLinux, program, [path, ...args]);
    assert.deepEqual(await rejection(survey({ path })), {
      code: 'ERR_ARCHIVE_READ',
      message: `${path}: is not a regular file`,
      remedy: 'Write the archive again at the factory',
    });
  });
}

test('a full scratch space is told as such', async () => {
  const [, second] = layers;
  assert.ok(second);
  await using work = await workDirectory();
  const path = await work.archive(valid);
  const to = await work.empty();
  await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=32k', 'prestage-test', to]);
  try {
    assert.deepEqual(await rejection(unpack({ path, to, writeBlobs: layers })), {
      code: 'ERR_SPACE_SCRATCH',
      message: `${join(to, hexOf(second))}: no space left in the scratch space`,
      remedy: 'Free space there, or choose another place with --scratch DIR',
    });
  } finally {
    await output(execOnLinux, 'umount', [to]);
  }
});
