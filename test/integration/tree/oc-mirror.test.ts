import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { plainAct } from '../../../agent/host/acts.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import type { Host } from '../../../agent/host/host.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { type Digest, digestOf, hexOf } from '../../../agent/model/digest.ts';
import { errorRecord } from '../../../agent/model/errors.ts';
import { sealRecord } from '../../../agent/model/seal.ts';
import { findOcMirror } from '../../../agent/tree/archive-sets.ts';
import { type UnpackedOcMirror, unpackOcMirror } from '../../../agent/tree/oc-mirror.ts';
import { treeImages } from '../../../agent/tree/tree-images.ts';
import { makeChart, makeWindowsImage } from '../../support/artifacts.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { makeImage, makeIndex } from '../../support/images.ts';
import {
  blobMember,
  linksOf,
  type MirroredImage,
  mirrorBlobs,
  mirrorEntry,
  tagMember,
  writeMirror,
} from '../../support/mirror-archives.ts';
import { startRegistry } from '../../support/registry.ts';
import { type TarEntry, tarEntry, tarStream } from '../../support/tar.ts';

const IDMS = `apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: idms-release-0}
spec: {imageDigestMirrors: []}
`;

describe('archives of oc-mirror', () => {
  let work: string;
  let store: string;
  /** What the first run mirrors, and what the second adds: a new release under a tag that was there. */
  let first: readonly MirroredImage[];
  let second: readonly MirroredImage[];
  const host: Host = linuxHost({ root: '/', env: {}, log: () => undefined });
  let made = 0;

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mirror-unpack-'));
    store = join(work, 'store');
    [first, second] = await makeImages(store);
  });
  after(async () => await rm(work, { recursive: true }));

  const fresh = (name: string): string => join(work, `${name}-${++made}`);

  async function unpack(from: string, to: string): Promise<UnpackedOcMirror> {
    const folder = await findOcMirror(from);
    const archives = folder?.sets.flatMap((set) => set.archives.map((archive) => archive.path)) ?? [];
    return await unpackOcMirror(host, { archives, to, act: plainAct, signal: new AbortController().signal });
  }

  it('of two runs become one tree, which a registry serves and skopeo copies whole', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    await writeMirror(from, {
      store,
      images: first,
      archives: 3,
      members: { 'working-dir/cluster-resources/idms-oc-mirror.yaml': IDMS, 'isc_2025-05-01T10:11:12Z': 'isc' },
    });
    await writeMirror(join(from, 'run-2'), { store, images: second, archives: 2, known: new Set(mirrorBlobs(first)) });

    const unpacked = await unpack(from, to);
    const all = [...first.filter(({ tag }) => tag !== 'moved'), ...second];
    const digests = mirrorBlobs([...first, ...second]);
    assert.deepEqual(
      { ...unpacked, bytes: 0, writtenBytes: unpacked.writtenBytes === unpacked.bytes },
      {
        blobs: digests.length,
        bytes: 0,
        writtenBytes: true,
        repositories: 3,
        images: 7,
        others: [],
        missing: [],
        faults: [],
        resources: { idms: [IDMS], itms: [], isc: ['isc'] },
      },
    );
    for (const digest of digests) assert.equal(digestOf(await readFile(join(to, blobMember(digest)))), digest);
    assert.deepEqual((await readdir(to)).toSorted(), ['docker', 'tree.json']);

    await using registry = await startRegistry({ near: work });
    await cp(join(to, 'docker'), join(registry.root, 'docker'), { recursive: true });
    for (const { repository, tag, image } of all) {
      for (const name of [`${repository}:${tag}`, `${repository}@${image.digest}`]) {
        const copy = fresh('copy');
        await output(execOnLinux, 'skopeo', [
          'copy',
          '--quiet',
          '--all',
          '--src-tls-verify=false',
          `docker://${registry.host}/${name}`,
          `dir:${copy}`,
        ]);
        assert.equal(digestOf(await readFile(join(copy, 'manifest.json'))), image.digest, name);
      }
    }
  });

  it('may hold what is not an image for Linux: it is served as it is, and counts for nothing', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const chart = { repository: 'charts/app', tag: '1.0.0', image: await makeChart(store, 'quay.io/e/charts/app:1.0.0') };
    const windows = { repository: 'windows/app', tag: '1', image: await makeWindowsImage(store, 'quay.io/e/windows') };
    // oc-mirror leaves layers out that registries do not hand out.
    const known = new Set(windows.image.instances.flatMap(({ layers }) => layers.map(({ digest }) => digest)));
    await writeMirror(from, { store, images: [...first, chart, windows], archives: 1, known });
    const unpacked = await unpack(from, to);
    assert.deepEqual([unpacked.images, unpacked.missing, unpacked.faults], [5, [], []]);
    assert.deepEqual(new Set(unpacked.others), new Set([chart.image.digest, windows.image.digest]));
    const served = await treeImages(to);
    for (const { repository, tag, image } of [chart, windows]) {
      assert.ok(served.some((one) => one.repository === repository && one.digest === image.digest && one.tags.includes(tag)));
    }
    assert.deepEqual((await unpack(from, to)).others, unpacked.others, 'known without another look into the archives');
  });

  it('that were unpacked are not read again, and others are', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const paths = await writeMirror(from, { store, images: first, archives: 1 });
    const once = await unpack(from, to);
    const inode = (await stat(join(to, 'tree.json'))).ino;
    assert.deepEqual(await unpack(from, to), { ...once, writtenBytes: 0 });
    assert.equal((await stat(join(to, 'tree.json'))).ino, inode);

    await rm(paths[0] ?? '');
    await writeMirror(from, { store, images: second, archives: 1 });
    const again = await unpack(from, to);
    assert.deepEqual([again.images, again.missing, again.writtenBytes < again.bytes], [2, [], true]);
    assert.deepEqual(await blobsBelow(to), mirrorBlobs(second).map(hexOf).toSorted(), 'blobs of the first are gone');
    assert.deepEqual(
      (await treeImages(to)).map((image) => image.tags),
      [['4.14.0-tool'], ['moved']],
    );
  });

  it('of which one is missing cost the images that need it, and name the file', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const paths = await writeMirror(from, { store, images: first, archives: 3 });
    await rm(paths[1] ?? '');
    const gone = mirrorBlobs(first).filter((_, index) => index % 3 === 1);
    const { missing, faults, images } = await unpack(from, to);
    assert.deepEqual(new Set(missing.map((one) => one.digest)).size > 0 && missing.every((one) => gone.includes(one.digest)), true);
    assert.deepEqual(new Set(missing.map((one) => one.from)), new Set([`${paths[1]}, which is missing`]));
    assert.deepEqual(faults, []);
    const served = await treeImages(to);
    assert.equal(served.length, images);
    assert.ok(served.every((image) => !missing.some((one) => image.tags.some((tag) => one.image === `${image.repository}:${tag}`))));
  });

  it('that are damaged cost the images that need the blob, and the others are served', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const [path = ''] = await writeMirror(from, { store, images: first, archives: 1 });
    const [tool] = first;
    const layer = tool?.image.instances[0]?.layers.at(-1)?.digest ?? assert.fail();
    const bytes = await readFile(path);
    const at = bytes.indexOf(await readFile(join(store, 'blobs/sha256', hexOf(layer))));
    bytes[at + 20] = (bytes[at + 20] ?? 0) ^ 1;
    await writeFile(path, bytes);
    const { missing, faults } = await unpack(from, to);
    assert.deepEqual(missing, [{ image: 'openshift4/tool:v1', digest: layer, part: 'layer', from: `${path}, which is damaged` }]);
    const actual = digestOf(bytes.subarray(at, at + (await stat(join(store, 'blobs/sha256', hexOf(layer)))).size));
    assert.deepEqual(faults, [
      {
        path,
        code: 'ERR_ARCHIVE_DIGEST',
        message: `${path}: blob ${layer} has the digest ${actual}`,
        remedy: 'Copy the archive again, unchanged, from the place where oc-mirror wrote it',
      },
    ]);
    assert.equal(existsSync(join(to, blobMember(layer))), false);
  });

  it('that are cut off bring what they hold, and say so', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const [path = ''] = await writeMirror(from, { store, images: first, archives: 1 });
    const bytes = await readFile(path);
    await writeFile(path, bytes.subarray(0, bytes.length - 3000));
    const { missing, faults } = await unpack(from, to);
    assert.ok(missing.length > 0);
    assert.ok(
      faults.some((fault) => fault.code === 'ERR_ARCHIVE_TRUNCATED'),
      JSON.stringify(faults),
    );
  });

  it('go on where a killed run has ended', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const big = await makeBig(store);
    await writeMirror(from, { store, images: [...first, big], archives: 1 });
    await killMidway(from, to);
    const kept = await blobsBelow(to);
    const whole = mirrorBlobs([...first, big]).length;
    assert.ok(kept.length > 0 && kept.length < whole, `${kept.length} of ${whole} blobs`);
    const { writtenBytes, bytes, missing } = await unpack(from, to);
    assert.deepEqual([missing, writtenBytes < bytes, writtenBytes > 0], [[], true, true]);
    for (const digest of mirrorBlobs([...first, big])) assert.equal(digestOf(await readFile(join(to, blobMember(digest)))), digest);
  });

  it('are written anew over what another boot has left unsynced', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    const [path = ''] = await writeMirror(from, { store, images: first, archives: 1 });
    const { bytes } = await unpack(from, to);
    const found = await stat(path);
    const key = JSON.stringify([[path, found.size, found.mtimeMs]]);
    const [digest] = mirrorBlobs(first);
    const blob = join(to, blobMember(digest ?? assert.fail()));
    await writeFile(blob, Buffer.alloc((await stat(blob)).size));
    await rm(join(to, 'tree.json'));
    await writeFile(join(to, 'tree.partial.json'), sealRecord({ version: 1, key, bootId: 'another' }));
    const again = await unpack(from, to);
    assert.deepEqual([again.writtenBytes, again.missing], [bytes, []]);
    assert.equal(digestOf(await readFile(blob)), digest);
  });

  it('do not go over what is no tree of ours', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    await writeMirror(from, { store, images: first, archives: 1 });
    await mkdir(to);
    await writeFile(join(to, 'letter.txt'), 'mine');
    assert.equal(await codeOfRejection(unpack(from, to)), 'ERR_REGISTRY_WRITE');
    assert.deepEqual(await readdir(to), ['letter.txt']);
  });

  it('that say too much are refused before room is taken', async () => {
    const [from, to] = [fresh('mirror'), fresh('tree')];
    await mkdir(from);
    await output(execOnLinux, 'truncate', ['--size', '15T', join(from, 'mirror_000001.tar')]);
    assert.equal(await codeOfRejection(unpack(from, to)), 'ERR_SPACE_REGISTRY');
  });

  describe('of somebody who means harm', () => {
    const link = (): Readonly<Record<string, string>> => linksOf(first);
    const blob = Buffer.from('a blob');
    const digest: Digest = digestOf(blob);
    const attacks: readonly (readonly [string, string, () => readonly (TarEntry | Buffer)[]])[] = [
      ['climb out of the tree', 'ERR_ARCHIVE_ESCAPE', () => [{ name: 'docker/registry/v2/blobs/../../../../../escaped', content: blob }]],
      ['name a place of the machine', 'ERR_ARCHIVE_ABSOLUTE', () => [{ name: '/tmp/escaped', content: blob }]],
      ['name it in a pax header', 'ERR_ARCHIVE_ABSOLUTE', () => [mirrorEntry(`/tmp/${'e'.repeat(120)}`, blob)]],
      [
        'lead a blob elsewhere by a symbolic link',
        'ERR_ARCHIVE_SYMLINK',
        () => [{ name: blobMember(digest), type: '2', linkName: '/etc/passwd' }],
      ],
      ['lead the workspace elsewhere', 'ERR_ARCHIVE_SYMLINK', () => [{ name: 'working-dir/x', type: '2', linkName: '/etc' }]],
      [
        'take over another file by a hard link',
        'ERR_ARCHIVE_HARDLINK',
        () => [{ name: blobMember(digest), type: '1', linkName: '/etc/passwd' }],
      ],
      ['make a device', 'ERR_ARCHIVE_DEVICE', () => [{ name: blobMember(digest), type: '4' }]],
      ['make a fifo', 'ERR_ARCHIVE_FIFO', () => [{ name: blobMember(digest), type: '6' }]],
      ['bring a file of their own', 'ERR_MIRROR_LAYOUT', () => [{ name: 'etc/passwd', content: blob }]],
      ['hide a file in the tree', 'ERR_MIRROR_LAYOUT', () => [{ name: 'docker/registry/v2/repositories/x/_layers/run.sh', content: blob }]],
      [
        'make a link that leads astray',
        'ERR_MIRROR_LINK',
        () =>
          Object.keys(link())
            .filter((name) => name.includes('/_layers/'))
            .slice(0, 1)
            .map((name) => ({ name, content: Buffer.from(digest) })),
      ],
      ['make a link that is none', 'ERR_MIRROR_LINK', () => [{ name: tagMember('x', 'v1'), content: Buffer.from('../../../etc/passwd') }]],
      ['make a link that is endless', 'ERR_ARCHIVE_OVERSIZE', () => [{ name: tagMember('x', 'v1'), content: Buffer.alloc(2000, 'a') }]],
      [
        'say of one tag two things',
        'ERR_ARCHIVE_DUPLICATE',
        () => [digest, digestOf('other')].map((one) => ({ name: tagMember('x', 'v1'), content: Buffer.from(one) })),
      ],
      [
        'say of the sources two things',
        'ERR_ARCHIVE_DUPLICATE',
        () => ['a', 'b'].map((one) => ({ name: 'working-dir/cluster-resources/idms-oc-mirror.yaml', content: Buffer.from(one) })),
      ],
    ];
    for (const [what, code, entries] of attacks) {
      it(`cannot ${what}`, async () => {
        const [from, to] = [fresh('mirror'), fresh('tree')];
        await mkdir(from);
        await writeFile(
          join(from, 'mirror_000001.tar'),
          tarStream(entries().map((entry) => (Buffer.isBuffer(entry) ? entry : tarEntry(entry)))),
        );
        assert.equal(await codeOfRejection(unpack(from, to)), code);
        const files = (await readdir(to, { recursive: true, withFileTypes: true })).filter((entry) => !entry.isDirectory());
        assert.deepEqual(
          files.map((entry) => entry.name),
          ['tree.partial.json'],
        );
        assert.equal(existsSync('/tmp/escaped') || existsSync(join(work, 'escaped')), false);
      });
    }
  });

  /** Starts an unpacking in a process of its own, and kills it when it has brought some blobs. */
  async function killMidway(from: string, to: string): Promise<void> {
    const agent = (name: string): string => join(import.meta.dirname, '../../../agent', name);
    const code = `
      import { readdirSync } from 'node:fs';
      import { linuxHost } from ${JSON.stringify(agent('host/linux.ts'))};
      import { unpackOcMirror } from ${JSON.stringify(agent('tree/oc-mirror.ts'))};
      const host = { ...linuxHost({ root: '/', env: {}, log: () => undefined }), cores: 1 };
      await unpackOcMirror(host, { archives: [${JSON.stringify(join(from, 'mirror_000001.tar'))}], to: ${JSON.stringify(to)},
        act: async (_, act) => await act(), signal: new AbortController().signal,
        onProgress: () => process.kill(process.pid, 'SIGKILL') });`;
    const script = `${fresh('script')}.mts`;
    await writeFile(script, code);
    const child = spawn(process.execPath, [script], { stdio: 'inherit' });
    const [, signal] = await once(child, 'exit');
    assert.equal(signal, 'SIGKILL');
  }
});

async function codeOfRejection(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'nothing was refused',
    (error: unknown) => errorRecord(error).code,
  );
}

async function blobsBelow(to: string): Promise<readonly string[]> {
  const names = await readdir(join(to, 'docker/registry/v2/blobs'), { recursive: true });
  return names
    .filter((name) => name.endsWith('/data'))
    .map((name) => name.split('/').at(-2) ?? '')
    .toSorted();
}

/** Images over one base: a tool, a release, a list of two platforms; and a second run that adds one and moves a tag. */
async function makeImages(store: string): Promise<[readonly MirroredImage[], readonly MirroredImage[]]> {
  const layer = async (name: string, bytes = 5000) =>
    await makeLayer(store, [{ kind: 'file', path: name, content: digestOf(name).repeat(bytes / 71) }]);
  const base = await layer('base');
  const image = async (name: string, architecture = 'amd64') =>
    await makeImage(store, {
      name: `quay.io/e/${name}`,
      format: name === 'tool' ? 'docker' : 'oci',
      layers: [base, await layer(name)],
      architecture,
    });
  const list = await makeIndex(store, { name: 'quay.io/e/list', format: 'oci', instances: [await image('x'), await image('a', 'arm64')] });
  const first = [
    { repository: 'openshift4/tool', tag: 'v1', image: await image('tool') },
    { repository: 'openshift/release-images', tag: 'moved', image: await image('release') },
    { repository: 'openshift/release', tag: '4.14.0-list', image: list },
  ];
  const second = [
    { repository: 'openshift/release-images', tag: 'moved', image: await image('newer') },
    { repository: 'openshift/release', tag: '4.14.0-tool', image: await image('added') },
  ];
  return [first, second];
}

/** An image whose layers take several batches. */
async function makeBig(store: string): Promise<MirroredImage> {
  const layers = [];
  for (const name of ['one', 'two', 'three']) {
    const noise = randomBytes(18 * 2 ** 20).toString('base64');
    layers.push(await makeLayer(store, [{ kind: 'file', path: name, content: noise }], 'zstd'));
  }
  return { repository: 'openshift/big', tag: 'v1', image: await makeImage(store, { name: 'quay.io/e/big', format: 'oci', layers }) };
}
