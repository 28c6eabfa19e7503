import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type ArchivedImage, readArchives } from '../../../agent/extract/archives.ts';
import { layoutBlobPath } from '../../../agent/extract/oci-layout.ts';
import type { LayoutImage } from '../../../agent/extract/payload.ts';
import { type ArchivePool, createArchivePool } from '../../../agent/extract/pool.ts';
import { plainAct } from '../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { parseReference } from '../../../agent/model/reference.ts';
import { registryRepository, treeBlobPath } from '../../../agent/model/registry-path.ts';
import { archivesTree } from '../../../agent/tree/archives-tree.ts';
import { layoutTree } from '../../../agent/tree/layout-tree.ts';
import type { TreeRequest } from '../../../agent/tree/node-tree.ts';
import { treeImages } from '../../../agent/tree/tree-images.ts';
import { writeOciLayout } from '../../support/images.ts';
import { startRegistry } from '../../support/registry.ts';
import { archivePath, copyFolder, makeTinyBundle, type TinyBundle } from '../../support/tiny-bundle.ts';

describe('the tree of a registry that is made on a node', () => {
  let work: string;
  let bundle: TinyBundle;
  let pool: ArchivePool;
  const host = linuxHost({ root: '/', env: {}, log: () => undefined });
  let made = 0;

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mirror-trees-'));
    bundle = await makeTinyBundle(work, 4);
    pool = createArchivePool({ size: 2, log: () => undefined });
  });
  after(async () => {
    await pool[Symbol.asyncDispose]();
    await rm(work, { recursive: true });
  });

  const fresh = (name: string): string => join(work, `${name}-${++made}`);
  const request = <Image>(images: readonly Image[], to: string): TreeRequest<Image> => ({
    images,
    to,
    pool,
    parallel: 2,
    act: plainAct,
    signal: new AbortController().signal,
  });
  const archivesOf = async (directory: string): Promise<readonly ArchivedImage[]> => (await readArchives(directory, 'discovery')).images;
  const layoutImages = async (layout: string): Promise<readonly LayoutImage[]> => {
    await writeOciLayout(bundle.store, bundle.images, layout);
    return bundle.images.map(({ reference, digest }) => ({
      kind: 'layout',
      reference,
      names: [reference],
      layout,
      digest,
      growth: undefined,
    }));
  };
  const blobsOfAll = (): readonly string[] => [
    ...new Set(
      bundle.images.flatMap(({ digest, instances }) => [
        digest,
        ...instances.flatMap((one) => [one.config.digest, ...one.layers.map((layer) => layer.digest)]),
      ]),
    ),
  ];

  /** Every image of the tree by every one of its names, out of a real registry. */
  async function assertServed(tree: string, names: readonly (readonly [string, string])[]): Promise<void> {
    await using registry = await startRegistry({ near: work });
    await cp(join(tree, 'docker'), join(registry.root, 'docker'), { recursive: true });
    for (const [name, digest] of names) {
      const reference = parseReference(name);
      const end = reference.tag === undefined ? `@${digest}` : `:${reference.tag}`;
      const copy = fresh('copy');
      const from = `docker://${registry.host}/${registryRepository(reference)}${end}`;
      await output(execOnLinux, 'skopeo', ['copy', '--quiet', '--all', '--src-tls-verify=false', from, `dir:${copy}`]);
      assert.equal(digestOf(await readFile(join(copy, 'manifest.json'))), digest, name);
    }
  }

  it('out of archives serves every image by each of its names', async () => {
    const to = fresh('tree');
    const images = await archivesOf(bundle.directory);
    const tree = await archivesTree(host, request(images, to));
    assert.deepEqual([tree.images, tree.refused, tree.blobs], [4, [], blobsOfAll().length]);
    const digests = new Map(bundle.images.map((image) => [image.reference, image.digest]));
    await assertServed(
      to,
      images.flatMap(({ names, reference }) => names.map((name) => [name, digests.get(reference) ?? ''] as const)),
    );
    assert.deepEqual(await archivesTree(host, request(images, to)), tree);
  });

  it('out of archives goes on without one that is damaged, and takes from another one what both share', async () => {
    const directory = await copyFolder(bundle, fresh('bundle'));
    const [first] = bundle.images;
    const path = archivePath(directory, first?.reference ?? '');
    const bytes = await readFile(path);
    await writeFile(path, bytes.subarray(0, bytes.length - 20));
    const to = fresh('tree');
    const tree = await archivesTree(host, { ...request(await archivesOf(directory), to), parallel: 1 });
    assert.deepEqual(
      [tree.images, tree.refused.map(({ reference, error }) => [reference, error.code])],
      [3, [[first?.reference, 'ERR_ARCHIVE_TRUNCATED']]],
    );
    assert.equal((await treeImages(to)).length, 3);
    assert.equal(digestOf(await readFile(join(to, treeBlobPath(bundle.base.digest)))), bundle.base.digest);
  });

  it('out of archives refuses one that holds another image than listed', async () => {
    const directory = await copyFolder(bundle, fresh('bundle'));
    const images = (await archivesOf(directory)).map((image, index) => (index === 1 ? { ...image, digest: digestOf('other') } : image));
    const tree = await archivesTree(host, request(images, fresh('tree')));
    assert.deepEqual(
      tree.refused.map(({ reference, error }) => [reference, error.code]),
      [[bundle.images[1]?.reference, 'ERR_ARCHIVE_REFERENCE']],
    );
  });

  it('out of a layout on its own file system shares the blobs with it', async () => {
    const [layout, to] = [fresh('layout'), fresh('tree')];
    const images = await layoutImages(layout);
    const tree = await layoutTree(host, request(images, to));
    assert.deepEqual([tree.images, tree.refused, tree.blobs], [4, [], blobsOfAll().length]);
    const { digest } = bundle.base;
    const [one, other] = await Promise.all([stat(layoutBlobPath(layout, digest)), stat(join(to, treeBlobPath(digest)))]);
    assert.ok(one.ino === other.ino || other.nlink === 1, 'a hard link, or a reflink where the file system has them');
    await assertServed(
      to,
      bundle.images.map((image) => [image.reference, image.digest] as const),
    );
  });

  it('out of a layout on another file system has the same files as out of archives', async (context) => {
    const layout = await mkdtemp('/dev/shm/mirror-trees-');
    try {
      const [to, other] = [fresh('tree'), fresh('tree')];
      assert.notEqual((await stat(layout)).dev, (await stat(work)).dev);
      const images = await layoutImages(layout);
      const archived = await archivesOf(bundle.directory);
      const names = new Map(archived.map((image) => [image.reference, image.names]));
      await layoutTree(
        host,
        request(
          images.map((image) => ({ ...image, names: names.get(image.reference) ?? [] })),
          to,
        ),
      );
      await archivesTree(host, request(archived, other));
      assert.deepEqual(await filesBelow(join(to, 'docker')), await filesBelow(join(other, 'docker')));
    } finally {
      await rm(layout, { recursive: true });
    }
    context.diagnostic('the other file system is /dev/shm');
  });

  it('out of a layout leaves out an image whose blob has other bytes of the same length', async () => {
    const [layout, to] = [await mkdtemp('/dev/shm/mirror-trees-'), fresh('tree')];
    try {
      const images = await layoutImages(layout);
      const own = bundle.images[2]?.instances[0]?.layers.at(-1)?.digest ?? assert.fail();
      const path = layoutBlobPath(layout, own);
      const { size } = await stat(path);
      await rm(path);
      await writeFile(path, Buffer.alloc(size));
      const tree = await layoutTree(host, request(images, to));
      assert.deepEqual(tree.refused, [
        {
          reference: bundle.images[2]?.reference,
          error: {
            code: 'ERR_LAYOUT_BLOB',
            message: `${path} has the digest ${digestOf(Buffer.alloc(size))}`,
            remedy: 'Pull the images again: complete blobs are kept',
          },
        },
      ]);
      assert.equal(tree.images, 3);
    } finally {
      await rm(layout, { recursive: true });
    }
  });

  it('is told what it serves', async () => {
    const to = fresh('tree');
    await archivesTree(host, request(await archivesOf(bundle.directory), to));
    const [first, ...others] = bundle.images;
    assert.deepEqual(await treeImages(to), [
      { repository: 'quay.io/example/tool', digest: first?.digest, tags: ['latest'] },
      ...others
        .map(({ digest }, index) => ({
          repository: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev',
          digest,
          tags: index === 0 ? [parseReference(bundle.mappedName).tag] : [],
        }))
        .toSorted((a, b) => (hexOf(a.digest) < hexOf(b.digest) ? -1 : 1)),
    ]);
    assert.deepEqual(await treeImages(join(work, 'nothing')), []);
  });
});

/** The sha256 of every file below a directory by its path. */
async function filesBelow(directory: string): Promise<ReadonlyMap<string, string>> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const files = await Promise.all(
    paths.toSorted().map(async (path) => [path.slice(directory.length), digestOf(await readFile(path))] as const),
  );
  return new Map(files);
}
