import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { lateFiles } from '../../../../agent/factory/compose/late-files.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';

test('files of packed layers that are later than 2106 are counted, and one of them is named by its path in the image', async () => {
  const graphroot = await mkdtemp(join(tmpdir(), 'late-files-'));
  const host = linuxHost({ root: '/', env: {}, log: () => undefined });
  const layers = ['a'.repeat(64), 'b'.repeat(64)];
  const look = async (without: readonly string[]) => await lateFiles(host, graphroot, without, new AbortController().signal);
  try {
    for (const layer of layers) {
      await mkdir(join(graphroot, 'overlay', layer, 'diff/etc'), { recursive: true });
      await writeFile(join(graphroot, 'overlay', layer, 'diff/etc/file'), '');
      await utimes(join(graphroot, 'overlay', layer, 'diff/etc/file'), 2 ** 32 - 1, 2 ** 32 - 1);
    }
    assert.equal(await look([]), undefined, 'the last second that a squashfs holds');
    for (const layer of layers) await utimes(join(graphroot, 'overlay', layer, 'diff/etc/file'), 2 ** 32, 2 ** 32);
    const text = 'files have times after 2106, which a squashfs cannot hold; they have other times in the store image: /etc/file';
    assert.equal(await look([]), `2 ${text} and others`);
    assert.equal(await look([`overlay/${layers[0]}`]), `1 ${text}`);
    assert.equal(await look(layers.map((layer) => `overlay/${layer}`)), undefined);
  } finally {
    await rm(graphroot, { recursive: true });
  }
});
