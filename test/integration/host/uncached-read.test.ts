import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { readUncached } from '../../../agent/host/uncached-read.ts';

const LONG_MS = 60_000;

describe('reading past the page cache', () => {
  let work: string;
  before(async () => (work = await mkdtemp('/var/tmp/uncached-')));
  after(async () => await rm(work, { recursive: true }));

  for (const sizeBytes of [0, 10, 4096, 1_000_000]) {
    it(`reads a file of ${sizeBytes} bytes`, async () => {
      const path = join(work, `file-${sizeBytes}`);
      await writeFile(path, Buffer.alloc(sizeBytes, 1));
      assert.deepEqual(await readUncached({ path, sizeBytes }, LONG_MS), { kind: 'read' });
    });
  }

  it('tells a file that is not there from a disk that does not read', async () => {
    const path = join(work, 'none');
    assert.deepEqual(await readUncached({ path, sizeBytes: 4096 }, LONG_MS), {
      kind: 'missing',
      reason: `failed to open '${path}': No such file or directory`,
    });
  });

  it('gives up on what never answers', async () => {
    // A fifo that nobody writes to blocks whoever opens it, as a disk that hangs does.
    const path = join(work, 'fifo');
    await output(execOnLinux, 'mkfifo', [path]);
    assert.deepEqual(await readUncached({ path, sizeBytes: 1_000_000 }, 300), { kind: 'silent' });
  });
});
