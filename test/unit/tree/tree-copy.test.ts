import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import type { BundleFile } from '../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { treeBlobPath } from '../../../agent/model/registry-path.ts';
import { type CopiedTree, copyTree } from '../../../agent/tree/tree-copy.ts';

const REPOSITORY = 'docker/registry/v2/repositories/quay.io/r';
const TAG = `${REPOSITORY}/_manifests/tags/v1/current/link`;
const [MANIFEST, LAYER] = [treeBlobPath(digestOf('manifest')), treeBlobPath(digestOf('layer'))];

describe('the part of a registry tree that is kept in memory', () => {
  let work: string;
  let from: string;
  let files: BundleFile[];
  const put = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(from, path)), { recursive: true });
    await writeFile(join(from, path), text);
    files.push({ path, sizeBytes: text.length, sha256: createHash('sha256').update(text).digest('hex') });
  };
  const copy = async (): Promise<CopiedTree> =>
    await copyTree(linuxHost({ root: work, env: {}, log: () => {} }), {
      from,
      files,
      act: plainAct,
      signal: new AbortController().signal,
    });
  /** Files with their text, links with where they lead. */
  const copied = async ({ path }: CopiedTree): Promise<Readonly<Record<string, string>>> => {
    const entries = (await readdir(path, { recursive: true, withFileTypes: true })).filter((entry) => !entry.isDirectory());
    const told = entries.map(async (entry) => {
      const at = join(entry.parentPath, entry.name);
      return [at.slice(path.length + 1), entry.isFile() ? await readFile(at, 'utf8') : `-> ${await readlink(at)}`] as const;
    });
    const { 'copied-from': _, ...tree } = Object.fromEntries(await Promise.all(told));
    return tree;
  };
  const link = `${REPOSITORY}/_layers/sha256/${hexOf(digestOf('layer'))}/link`;
  const revision = `${REPOSITORY}/_manifests/revisions/sha256/${hexOf(digestOf('manifest'))}/link`;
  const links = (): Readonly<Record<string, string>> => ({
    [link]: digestOf('layer'),
    [revision]: digestOf('manifest'),
    [TAG]: digestOf('manifest'),
  });
  const toLayer = (): Readonly<Record<string, string>> => ({ [dirname(LAYER)]: `-> ${join(from, dirname(LAYER))}` });
  beforeEach(async () => {
    work = await mkdtemp(join(tmpdir(), 'tree-copy-'));
    from = join(work, 'bundle');
    files = [];
    await put(MANIFEST, 'manifest');
    await put(LAYER, 'layer');
    for (const [path, text] of Object.entries(links())) await put(path, text);
  });
  afterEach(async () => await rm(work, { recursive: true, force: true }));

  it('are its links and manifests; layers are led to', async () => {
    const tree = await copy();
    assert.deepEqual(await copied(tree), { ...links(), ...toLayer(), [MANIFEST]: 'manifest' });
    assert.equal(await readFile(join(tree.path, LAYER), 'utf8'), 'layer');
    assert.deepEqual(tree, { path: join(work, 'run/prestage-agent/mirror'), blobs: join(from, 'docker/registry/v2/blobs') });
  });

  it('has nothing that prestage.json does not list, and what it lists where links were exchanged', async () => {
    const added = TAG.replace('v1', 'v2');
    const before = files;
    files = [];
    await put(added, digestOf('layer'));
    await put(treeBlobPath(digestOf('more')), 'more');
    await writeFile(join(from, TAG), digestOf('layer'));
    files = before;
    assert.deepEqual(await copied(await copy()), { ...links(), ...toLayer(), [MANIFEST]: 'manifest' });
  });

  it('does not change when the partition does, and stays as it is in the next run', async () => {
    const tree = await copy();
    const { ino } = await stat(tree.path);
    for (const path of [MANIFEST, TAG]) await writeFile(join(from, path), 'exchanged');
    assert.deepEqual(await copied(await copy()), { ...links(), ...toLayer(), [MANIFEST]: 'manifest' });
    assert.equal((await stat(tree.path)).ino, ino);
  });

  it('loses a blob that is no plain file any more in the next run', async () => {
    await copy();
    await rm(join(from, LAYER));
    await symlink('/etc/passwd', join(from, LAYER));
    assert.deepEqual(await copied(await copy()), { ...links(), [MANIFEST]: 'manifest' });
  });

  it('lacks a manifest of other bytes, and a blob that is a link, until they are whole', async () => {
    await writeFile(join(from, MANIFEST), 'mAnifest');
    await rm(join(from, LAYER));
    await symlink('/etc/passwd', join(from, LAYER));
    assert.deepEqual(await copied(await copy()), links());
    await writeFile(join(from, MANIFEST), 'manifest');
    await rm(join(from, LAYER));
    await writeFile(join(from, LAYER), 'layer');
    assert.deepEqual(await copied(await copy()), { ...links(), ...toLayer(), [MANIFEST]: 'manifest' });
  });
});
