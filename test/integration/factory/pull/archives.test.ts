import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readArchives } from '../../../../agent/extract/archives.ts';
import { createArchivePool } from '../../../../agent/extract/pool.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { errorRecord } from '../../../../agent/model/errors.ts';
import { archiveName } from '../../../support/image-archives.ts';
import { type ImageSet, smallImageSet } from '../../../support/image-set.ts';
import { blobsOf, writeDirLayout } from '../../../support/images.ts';
import { transferBytes, tryPull } from '../../../support/pulls.ts';
import { type Registry, startRegistry } from '../../../support/registry.ts';

let set: ImageSet;
let registry: Registry;
let work: string;
let references: readonly string[];
let folder: string;

before(async () => {
  set = await smallImageSet();
  registry = await startRegistry({ near: set.store });
  references = await registry.add(set.store, set.all);
  work = await mkdtemp(join(tmpdir(), 'pull-archives-'));
  folder = join(work, 'folder');
});
after(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(work, { recursive: true, force: true });
});

describe('a pull into archives', () => {
  it('fetches each blob once and leaves an archive per image and the list, nothing else', async () => {
    const { report, fetchedBytes } = await tryPull(folder, references, { format: 'archives' });
    assert.deepEqual([report.outcome, fetchedBytes], ['complete', transferBytes(set.all)]);
    const names = set.all.map(({ reference }) => `${archiveName(reference)}.tgz`);
    assert.deepEqual((await readdir(folder)).sort(), [...names, 'ocp-images.txt'].sort());
    assert.equal(await readFile(join(folder, 'ocp-images.txt'), 'utf8'), references.map((reference) => `${reference}\n`).join(''));
  });

  it('writes what the node reads: every blob of every platform, under the digest of the list', async () => {
    const { images, refused } = await readArchives(folder, 'installed');
    assert.deepEqual([images.map(({ reference }) => reference), refused], [references, []]);
    await using pool = createArchivePool({ size: 2, log: () => undefined });
    for (const [index, { archive }] of images.entries()) {
      const to = await mkdtemp(join(work, 'unpacked-'));
      const found = await pool.unpack({ path: archive.path, name: archive.name, architecture: 'amd64', writeBlobs: [], to });
      const made = set.all[index];
      assert.ok(made);
      assert.deepEqual([found.topDigest, found.blobs], [made.digest, blobsOf(made).length]);
    }
  });

  it('writes the files that skopeo writes, as tar(1) unpacks them', async () => {
    for (const image of [set.images.indexByTag, set.images.zstd]) {
      const name = archiveName(image.reference);
      const [ours, theirs] = [join(work, 'ours'), join(work, 'theirs', name)];
      await mkdir(ours, { recursive: true });
      await output(execOnLinux, 'tar', ['xzf', join(folder, `${name}.tgz`), '-C', ours]);
      await writeDirLayout(set.store, image, theirs);
      assert.equal(await output(execOnLinux, 'diff', ['-r', join(ours, name), theirs]), '');
    }
  });

  it('writes the same bytes from the same images', async () => {
    const again = join(work, 'again');
    await tryPull(again, references, { format: 'archives', parallel: 4 });
    assert.equal(await output(execOnLinux, 'diff', ['-r', folder, again]), '');
  });

  it('keeps archives that are whole, and writes those again that are not', async () => {
    const kept = await tryPull(folder, references, { format: 'archives' });
    assert.deepEqual(
      [kept.report.outcome, kept.fetchedBytes, new Set(kept.report.images.map(({ state }) => state))],
      ['complete', 0, new Set(['kept'])],
    );
    const { agent, zstd } = set.images;
    const pathOf = (reference: string) => join(folder, `${archiveName(reference)}.tgz`);
    await truncate(pathOf(agent.reference), 10_000);
    const bytes = await readFile(pathOf(zstd.reference));
    bytes.writeUInt8(bytes.readUInt8(100_000) ^ 1, 100_000);
    await writeFile(pathOf(zstd.reference), bytes);
    const { report, fetchedBytes } = await tryPull(folder, references, { format: 'archives' });
    const written = report.images.flatMap(({ state }, index) => (state === 'pulled' ? [set.all[index]?.reference] : []));
    assert.deepEqual(
      [report.outcome, written, fetchedBytes],
      ['complete', [agent.reference, zstd.reference], transferBytes([agent, zstd])],
    );
    assert.equal(await output(execOnLinux, 'diff', ['-r', folder, join(work, 'again')]), '');
  });

  it('goes on after a failure without fetching what has come, and removes it at the end', async () => {
    const to = join(work, 'partial');
    const wanted = [...references.slice(0, 3), `${registry.host}/example/troubleshoot:later`];
    const { report } = await tryPull(to, wanted, { format: 'archives', retries: 0 });
    assert.equal(report.outcome, 'partial');
    assert.ok((await readdir(to)).includes('.staging'));
    await rm(join(to, `${archiveName(set.images.agent.reference)}.tgz`));
    await registry.add(set.store, [{ ...set.images.agent, reference: 'quay.io/example/troubleshoot:later' }]);
    const again = await tryPull(to, wanted, { format: 'archives' });
    assert.deepEqual([again.report.outcome, again.fetchedBytes], ['complete', 0]);
    assert.equal((await readdir(to)).includes('.staging'), false);
  });

  it('is refused where two images would have one archive, before anything is asked for', async () => {
    const lines = ['quay.io/one/tool:v1', 'quay.io/two/tool:v1'];
    const error = await tryPull(join(work, 'collision'), lines, { format: 'archives' }).then(() => undefined, errorRecord);
    assert.equal(error?.code, 'ERR_ARCHIVE_COLLISION');
    assert.equal((await readdir(work)).includes('collision'), false);
  });

  it('needs room for the archives, too', async () => {
    const to = await mkdtemp(join(work, 'small-'));
    await output(execOnLinux, 'mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', to]);
    try {
      const error = await tryPull(to, references, { format: 'archives' }).then(() => undefined, errorRecord);
      assert.equal(error?.code, 'ERR_SPACE_PULL');
    } finally {
      await output(execOnLinux, 'umount', [to]);
    }
  });
});
