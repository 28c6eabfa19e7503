import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { digestOf, hexOf } from '../../../agent/model/digest.ts';
import { archiveNameOf } from '../../../agent/model/reference.ts';
import { copyToDisk, disksUnavailable, fillDisk, makeDisk, mountPointsOf } from '../../support/disk.ts';
import { archiveName } from '../../support/image-archives.ts';
import { blobPath, makeLayer } from '../../support/image-layer.ts';
import { type ImageSet, MAPPED_TAG, smallImageSet } from '../../support/image-set.ts';
import { blobsOf, type MadeImage, writeDirLayout, writeOciLayout } from '../../support/images.ts';
import { type PrivateStorage, privateStorage } from '../../support/storage.ts';

describe('the images that tests use', () => {
  let set: ImageSet;
  let storage: PrivateStorage;
  let work: string;
  before(async () => {
    set = await smallImageSet();
    work = await mkdtemp(join(tmpdir(), 'support-'));
    storage = await privateStorage(work);
  });
  after(async () => {
    await storage[Symbol.asyncDispose]();
    await rm(work, { recursive: true });
  });

  const load = async (image: MadeImage) => {
    const name = archiveName(image.reference);
    await output(execOnLinux, 'tar', ['xzf', join(set.archives, `${name}.tgz`), '-C', work]);
    await output(execOnLinux, 'skopeo', ['copy', '--preserve-digests', `dir:${join(work, name)}`, storage.name(image.reference)]);
  };

  it('are blobs whose bytes have their digests', async () => {
    for (const image of set.all) {
      for (const { digest, sizeBytes } of [image.manifest, ...blobsOf(image)]) {
        const bytes = await readFile(blobPath(set.store, digest));
        assert.deepEqual({ digest: digestOf(bytes), sizeBytes: bytes.length }, { digest, sizeBytes });
      }
    }
  });

  it('come as list files and one archive per image, with one top directory that has its name', async () => {
    const images = new Map([...set.discovery, ...set.installed].map((image) => [image.reference, image]));
    const archives = [...images.keys()].map((reference) => `${archiveNameOf(reference)}.tgz`);
    assert.deepEqual((await readdir(set.archives)).sort(), [...archives, 'ai-images.txt', 'mapping.txt', 'ocp-images.txt'].sort());
    assert.equal(
      await readFile(join(set.archives, 'ai-images.txt'), 'utf8'),
      set.discovery.map((image) => `${image.reference}\n`).join(''),
    );
    assert.equal(
      await readFile(join(set.archives, 'mapping.txt'), 'utf8'),
      `${set.images.zstd.reference}=registry.example.com:5000/ocp4/openshift4:${MAPPED_TAG}\n`,
    );
    for (const image of images.values()) {
      const name = archiveNameOf(image.reference);
      const members = (await output(execOnLinux, 'tar', ['tzf', join(set.archives, `${name}.tgz`)])).split('\n');
      const children = image.kind === 'index' ? image.instances.map(({ manifest }) => `${hexOf(manifest.digest)}.manifest.json`) : [];
      const files = ['', 'manifest.json', 'version', ...children, ...blobsOf(image).map(({ digest }) => hexOf(digest))];
      assert.deepEqual(members.sort(), files.map((file) => `${name}/${file}`).sort());
    }
  });

  it('have the files that `skopeo copy --all` gives for an image index', async () => {
    const image = set.images.indexByTag;
    await writeOciLayout(set.store, [image], join(work, 'oci'));
    await writeDirLayout(set.store, image, join(work, 'own'));
    const [from, to] = [`oci:${join(work, 'oci')}:${image.reference}`, `dir:${join(work, 'skopeo')}`];
    await output(execOnLinux, 'skopeo', ['copy', '--all', '--preserve-digests', from, to]);
    assert.equal(await output(execOnLinux, 'diff', ['-r', join(work, 'own'), join(work, 'skopeo')]), '');
  });

  it('load into containers-storage, are found by their references, and run', async () => {
    for (const image of set.all) {
      await load(image);
      assert.equal((await storage.podman('image', 'exists', image.reference)).exitCode, 0, image.reference);
    }
    const { release, zstd, otherArchitecture } = set.images;
    assert.equal(await storage.run(release.reference, ['cat', '/etc/prestage-image']), 'release');
    assert.equal(await storage.run(zstd.reference, ['cat', '/etc/prestage-image']), 'zstd');
    assert.equal(await storage.run(otherArchitecture.reference, ['cat', '/etc/prestage-image']), 'other-architecture');
  });

  it('carry whiteouts, hard links, symbolic links, owners and extended attributes into storage', async () => {
    const { whiteouts, links } = set.images;
    await load(whiteouts);
    await load(links);
    const left = await storage.run(whiteouts.reference, ['sh', '-c', 'ls -d /etc/removed-later /srv/gone 2>/dev/null; ls /etc/conf.d']);
    assert.equal(left, '20-own.conf');
    const inodes = await storage.run(links.reference, ['stat', '-c', '%h %U %a %N', '/opt/hard', '/opt/soft', '/opt/setuid']);
    assert.equal(inodes, "2 root 644 '/opt/hard'\n1 root 777 '/opt/soft' -> 'original'\n1 UNKNOWN 4755 '/opt/setuid'");
    const found = await output(execOnLinux, 'find', [storage.graphroot, '-path', '*/diff/opt/capable']);
    assert.match(await output(execOnLinux, 'getcap', [found]), /cap_net_bind_service[=+]ep$/);
    assert.equal(await attributeOf(join(found, '../original'), 'user.prestage'), 'kept');
  });

  it('are the same bytes when the same layer is made twice', async () => {
    const entries = [{ kind: 'copy', path: 'bin/sh', from: '/bin/sh' } as const];
    await mkdir(join(work, 'one'));
    await mkdir(join(work, 'two'));
    assert.deepEqual(await makeLayer(join(work, 'one'), entries), await makeLayer(join(work, 'two'), entries));
  });
});

describe('the disks that tests use', async () => {
  const reason = await disksUnavailable();

  it('have a partition of the label at the end, with XFS, and leave nothing behind', { skip: reason ?? false }, async () => {
    const work = await mkdtemp(join(tmpdir(), 'support-'));
    let partition = '';
    {
      await using disk = await makeDisk({ directory: work, label: 'prestage-test' });
      partition = disk.partition;
      const facts = await output(execOnLinux, 'blkid', ['-p', '-o', 'export', disk.partition]);
      const fact = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(facts)?.[1];
      assert.deepEqual([fact('PART_ENTRY_NAME'), fact('TYPE'), fact('PART_ENTRY_NUMBER')], ['prestage-test', 'xfs', '5']);
      await copyToDisk(disk, work, join(import.meta.dirname, '../../support'));
      await fillDisk(disk, work, async (mountPoint) => {
        assert.ok((await readdir(mountPoint)).includes('disk.ts'));
        assert.deepEqual(await mountPointsOf(disk.partition), [mountPoint]);
      });
      assert.deepEqual(await mountPointsOf(disk.partition), []);
    }
    assert.equal((await execOnLinux('blkid', ['-p', partition])).exitCode, 2);
    assert.deepEqual(await readdir(work), []);
    await rm(work, { recursive: true });
  });
});

/** One extended attribute of a file, by the Python that Debian and Fedora install with their package tools. */
async function attributeOf(path: string, name: string): Promise<string> {
  return output(execOnLinux, 'python3', ['-c', 'import os,sys; print(os.getxattr(sys.argv[1], sys.argv[2]).decode())', path, name]);
}
