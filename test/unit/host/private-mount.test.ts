import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { linuxHost } from '../../../agent/host/linux.ts';
import { privateTarget, reclaimTargets } from '../../../agent/host/private-mount.ts';

/** No process has such an id: pid_max is 2^22 at most (proc_sys_kernel(5)). */
const GONE = 2 ** 22 + 1;

test('mount points of killed processes go, even where nothing was mounted yet; those of living ones, and what is no empty directory, stay', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'private-mount-'));
  t.after(() => rm(root, { recursive: true }));
  const host = linuxHost({ root, env: {}, log: () => undefined });
  const own = await privateTarget(host);
  const top = join(own, '..');
  for (const name of [own, join(top, `${GONE}-0`), join(top, `${GONE}-1`)]) await mkdir(name);
  await writeFile(join(top, `${GONE}-1`, 'file'), '');
  await writeFile(join(top, `${GONE}-2`), '');
  await reclaimTargets(host);
  assert.deepEqual((await readdir(top)).toSorted(), [`${process.pid}-0`, `${GONE}-1`, `${GONE}-2`].toSorted());
});
