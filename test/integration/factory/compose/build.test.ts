import assert from 'node:assert/strict';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createArchivePool } from '../../../../agent/extract/pool.ts';
import { requireTools } from '../../../../agent/factory/compose/tools.ts';
import { execOnLinux, output } from '../../../../agent/host/exec.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { BUNDLE_FILE, type Bundle, PARTIAL_FILE, parseBundle } from '../../../../agent/model/bundle.ts';
import { digestOf, hexOf } from '../../../../agent/model/digest.ts';
import { archiveNameOf } from '../../../../agent/model/reference.ts';
import { copyLayout, hashesBelow, listOf, runBuild, writeElf, writePulled } from '../../../support/build.ts';
import { CACHE } from '../../../support/cache.ts';
import { blobPath } from '../../../support/image-layer.ts';
import { type ImageSet, MAPPED_TAG, smallImageSet } from '../../../support/image-set.ts';
import { startRegistry } from '../../../support/registry.ts';

const EM_X86_64 = 62;
const EM_AARCH64 = 183;
const EPOCH = 1_710_000_000;

describe('prestage-agent build', () => {
  let set: ImageSet;
  let work: string;
  let pulled: string;
  before(async () => {
    set = await smallImageSet();
    // Beside the images, so that blobs are links.
    work = await mkdtemp(join(CACHE, '.build-test-'));
    pulled = await writePulled(set, join(work, 'pulled'));
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const bundleAt = async (to: string): Promise<Bundle> => parseBundle(await readFile(join(to, BUNDLE_FILE), 'utf8'), to);
  /** The code and message that a build ends with. */
  const failure = async (options: Parameters<typeof runBuild>[0]) => {
    const error: unknown = await runBuild(options).then(
      () => assert.fail('it was built'),
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof Error && 'code' in error);
    return { code: error.code, message: error.message };
  };

  it('seals what it makes: every file in its size and with its sha256, the images of both stages by their names', async () => {
    const to = join(work, 'sealed');
    const agents = [await writeElf(join(work, 'x64'), EM_X86_64), await writeElf(join(work, 'arm64'), EM_AARCH64)];
    const { report } = await runBuild({ from: pulled, to, payloads: ['registry', 'oci'], agents, sourceDateEpoch: EPOCH });
    const bundle = await bundleAt(to);
    const { [BUNDLE_FILE]: manifest, ...files } = await hashesBelow(to);
    assert.deepEqual(report, {
      outcome: 'built',
      bundle: to,
      parts: [
        { id: 'oci', state: 'make', outputBytes: 0, workBytes: 0 },
        { id: 'registry', state: 'make', outputBytes: 0, workBytes: 0 },
        { id: 'prestage-agent', state: 'make', outputBytes: 71, workBytes: 0 },
        { id: 'bin/prestage-agent-linux-arm64', state: 'make', outputBytes: 71, workBytes: 0 },
      ],
      manifestSha256: manifest,
    });
    assert.deepEqual(Object.fromEntries(bundle.files.map((file) => [file.path, file.sha256])), files);
    for (const file of bundle.files) assert.equal((await lstat(join(to, file.path))).size, file.sizeBytes);
    assert.deepEqual(
      [bundle.release, bundle.architecture, bundle.createdAt, bundle.payloads],
      [
        '4.14.0',
        'amd64',
        '2024-03-09T16:00:00Z',
        [
          { kind: 'oci', path: 'oci' },
          { kind: 'registry', path: 'registry' },
        ],
      ],
    );
    for (const [stage, images] of [['discovery', set.discovery] as const, ['installed', set.installed] as const]) {
      const expected = images.map((image) => {
        const own = image.instances.find((one) => one.architecture === 'amd64');
        const layers = own?.layers ?? [];
        return {
          reference: image.reference,
          names: [image.reference, ...(image === set.images.zstd ? [`${image.reference.split('@')[0]}:${MAPPED_TAG}`] : [])],
          manifestDigest: image.digest,
          ...(image.kind === 'index' && { instanceDigest: own?.manifest.digest }),
          compressedBytes: layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
          unpackedBytes: layers.reduce((sum, layer) => sum + layer.unpackedBytes, 0),
        };
      });
      assert.deepEqual(bundle.stages[stage]?.images, expected);
    }
    assert.equal((await lstat(join(to, 'prestage-agent'))).mode & 0o777, 0o755);
    assert.match(await readFile(join(to, 'README.txt'), 'utf8'), /^Release 4\.14\.0, amd64, made by prestage-agent/m);
    assert.deepEqual((await readdir(to)).toSorted(), ['.build', 'README.txt', 'bin', 'oci', 'prestage-agent', 'prestage.json', 'registry']);
  });

  it('places blobs without copying them, and leaves those of other architectures out', async () => {
    const to = join(work, 'placed');
    await runBuild({ from: pulled, to });
    const [layer] = set.images.release.instances[0]?.layers ?? [];
    assert.ok(layer);
    const placed = await lstat(blobPath(join(to, 'oci'), layer.digest));
    const source = await lstat(blobPath(pulled, layer.digest));
    assert.ok(placed.ino === source.ino || placed.blocks === source.blocks);
    const blobs = new Set(await readdir(join(to, 'oci/blobs/sha256')));
    const foreign = set.all.flatMap((image) => image.instances.filter((one) => one.architecture !== 'amd64'));
    assert.ok(foreign.length > 0 && foreign.every((one) => !blobs.has(hexOf(one.manifest.digest))));
    for (const image of set.all) assert.ok(blobs.has(hexOf(image.digest)));
  });

  it('does nothing for an unchanged input, and makes again what was touched', async () => {
    const to = join(work, 'again');
    const options = { from: pulled, to, payloads: ['oci', 'registry'] as const };
    const first = await runBuild(options);
    const before = await lstat(join(to, BUNDLE_FILE));
    const second = await runBuild(options);
    assert.deepEqual([second.report.outcome, second.report.manifestSha256], ['unchanged', first.report.manifestSha256]);
    assert.deepEqual([(await lstat(join(to, BUNDLE_FILE))).mtimeMs, second.messages], [before.mtimeMs, []]);

    await rm(join(to, 'oci/index.json'));
    const third = await runBuild(options);
    assert.deepEqual(
      third.report.parts.map((part) => [part.id, part.state]),
      [
        ['oci', 'make'],
        ['registry', 'keep'],
      ],
    );
    const fourth = await runBuild({ ...options, payloads: ['registry'] });
    assert.deepEqual([fourth.report.outcome, await readdir(to)], ['built', ['.build', 'README.txt', 'prestage.json', 'registry']]);
    assert.deepEqual((await bundleAt(to)).payloads, [{ kind: 'registry', path: 'registry' }]);
  });

  it('writes archives that are read back whole, with the digests of their lists', async () => {
    const to = join(work, 'archived');
    await runBuild({ from: pulled, to, payloads: ['archives'] });
    const folder = join(to, 'archives');
    assert.equal(await readFile(join(folder, 'ocp-images.txt'), 'utf8'), listOf(set.installed));
    await using pool = createArchivePool({ size: 2, log: () => undefined });
    for (const image of set.all) {
      const name = archiveNameOf(image.reference);
      const job = { path: join(folder, `${name}.tgz`), name, architecture: 'amd64' };
      const to = await mkdtemp(join(work, 'unpacked-'));
      const survey = await pool.survey(job);
      const { topDigest } = await pool.unpack({ ...job, writeBlobs: [], to });
      // The manifests stand at the front: a look at them does not read the archive.
      assert.ok(survey.bytesRead <= Math.max(1024 * 1024, survey.archiveBytes / 2));
      assert.equal(topDigest, image.digest);
    }
  });

  it('writes an archive while another build links the same blobs, but not while one is exchanged', async () => {
    const blobs = join(pulled, 'blobs/sha256');
    const path = process.env.PATH ?? '';
    /** tar waits for its gzip with a blob in its hands. */
    const buildWhile = async (to: string, meanwhile: string) => {
      const bin = await mkdtemp(join(work, 'bin-'));
      const script = `#!/bin/sh\nsleep 0.3\nfor blob in ${blobs}/*; do ${meanwhile}; done\nPATH=${path} exec gzip "$@"\n`;
      await writeFile(join(bin, 'gzip'), script, { mode: 0o755 });
      process.env.PATH = `${bin}:${path}`;
      try {
        await runBuild({ from: pulled, to: join(work, to), payloads: ['archives'] });
      } finally {
        process.env.PATH = path;
      }
    };
    await buildWhile('linked', 'ln "$blob" "$0.$$" && rm "$0.$$"');
    await assert.rejects(buildWhile('touched', 'touch "$blob"'), {
      code: 'ERR_TOOL_FAILED',
      message: /failed with exit code 1: tar: .*: file changed as we read it/,
    });
  });

  it('takes archives as they are, and makes the other payloads of what is in them', async () => {
    const [fromArchives, fromLayout] = [join(work, 'from-archives'), join(work, 'from-layout')];
    const options = { payloads: ['oci', 'archives'] as const, sourceDateEpoch: EPOCH };
    await runBuild({ ...options, from: set.archives, to: fromArchives });
    await runBuild({ ...options, from: pulled, to: fromLayout });
    const ofArchives = await hashesBelow(fromArchives);
    const ofLayout = await hashesBelow(fromLayout);
    const oci = (hashes: Readonly<Record<string, string>>) => Object.entries(hashes).filter(([path]) => path.startsWith('oci/'));
    assert.deepEqual(oci(ofArchives), oci(ofLayout));
    assert.deepEqual((await bundleAt(fromArchives)).stages, (await bundleAt(fromLayout)).stages);
    for (const name of await readdir(set.archives)) {
      assert.equal((await lstat(join(fromArchives, 'archives', name))).size, (await lstat(join(set.archives, name))).size);
    }
    assert.deepEqual(await readdir(join(fromArchives, '.build')), ['lock', 'lock.holder', 'record.json', 'writers.lock']);
    assert.equal((await runBuild({ ...options, from: set.archives, to: fromArchives })).report.outcome, 'unchanged');
  });

  it('makes a tree that a real registry serves whole, each image by each of its names', async () => {
    const to = join(work, 'served');
    await runBuild({ from: pulled, to, payloads: ['registry'] });
    await using registry = await startRegistry({ near: work });
    await mkdir(registry.root, { recursive: true });
    await output(execOnLinux, 'cp', ['-al', `${to}/registry/.`, registry.root]);
    for (const { names, manifestDigest } of (await bundleAt(to)).stages.installed?.images ?? []) {
      for (const name of names) {
        const target = join(work, `copied-${hexOf(manifestDigest).slice(0, 8)}`);
        const source = `docker://${registry.host}/${name}`;
        await output(execOnLinux, 'skopeo', ['copy', '-q', '--preserve-digests', '--src-tls-verify=false', source, `dir:${target}`]);
        assert.equal(digestOf(await output(execOnLinux, 'skopeo', ['inspect', '--raw', '--tls-verify=false', source])), manifestDigest);
        await rm(target, { recursive: true });
      }
    }
  });

  it('says before it starts what it would make, and writes nothing', async () => {
    const to = join(work, 'dry');
    const { report } = await runBuild({ from: pulled, to, payloads: ['oci', 'archives'], isDry: true });
    assert.deepEqual(
      [report.outcome, report.parts.map((part) => [part.id, part.state, part.outputBytes > 0])],
      [
        'planned',
        [
          ['oci', 'make', false],
          ['archives', 'make', true],
        ],
      ],
    );
    await assert.rejects(lstat(to), { code: 'ENOENT' });
    const archives = await runBuild({ from: set.archives, to, payloads: ['oci'], isDry: true });
    assert.deepEqual([archives.report.outcome, archives.report.parts.map((part) => part.id)], ['planned', ['oci']]);
    await assert.rejects(lstat(to), { code: 'ENOENT' });
  });

  it('goes on where it was ended, and says meanwhile that the bundle is not whole', async () => {
    const to = join(work, 'ended');
    const stop = new AbortController();
    const say = (text: string) => {
      if (text === 'registry: started') stop.abort();
    };
    const options = { from: pulled, to, payloads: ['oci', 'archives', 'registry'] as const };
    assert.deepEqual(await failure({ ...options, signal: stop.signal, say }), {
      code: 'ERR_INTERRUPTED',
      message: 'the build was interrupted',
    });
    const names = await readdir(to);
    assert.deepEqual([names.includes(PARTIAL_FILE), names.includes(BUNDLE_FILE)], [true, false]);
    const { report } = await runBuild(options);
    assert.deepEqual(
      report.parts.map((part) => [part.id, part.state]),
      [
        ['oci', 'keep'],
        ['archives', 'keep'],
        ['registry', 'make'],
      ],
    );
    assert.deepEqual(await readdir(to), ['.build', 'README.txt', 'archives', 'oci', 'prestage.json', 'registry']);
  });

  it('lists every image that is missing, and seals nothing over a blob that is damaged', async () => {
    const damaged = await copyLayout(pulled, join(work, 'damaged'));
    const [, layer] = set.images.release.instances[0]?.layers ?? [];
    assert.ok(layer);
    const path = blobPath(damaged, layer.digest);
    const bytes = await readFile(path);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 9) ^ 1, bytes.length - 9);
    await writeFile(path, bytes);
    const to = join(work, 'of-damaged');
    const found = await failure({ from: damaged, to });
    assert.equal(found.code, 'ERR_LAYOUT_BLOB');
    assert.match(found.message, new RegExp(`^${path} has the digest sha256:[0-9a-f]{64}$`));
    assert.equal((await readdir(to)).includes(BUNDLE_FILE), false);

    await writeFile(
      join(damaged, 'ocp-images.txt'),
      `quay.io/e/gone:1\n${listOf([set.images.oci])}quay.io/e/gone@sha256:${'a'.repeat(64)}\n`,
    );
    assert.deepEqual(await failure({ from: damaged, to: join(work, 'of-missing') }), {
      code: 'ERR_BUILD_IMAGE',
      message: [
        `${damaged} does not contain all listed images: 2 faults`,
        'installed: quay.io/e/gone:1: the layout has no image with this reference',
        `installed: quay.io/e/gone@sha256:${'a'.repeat(64)}: the layout has no image with this digest`,
      ].join('\n'),
    });
    await rm(path);
    await writeFile(join(damaged, 'ocp-images.txt'), listOf(set.installed));
    assert.deepEqual(await failure({ from: damaged, to: join(work, 'of-truncated') }), {
      code: 'ERR_LAYOUT',
      message: `${path} cannot be read: it does not exist`,
    });
  });

  it('refuses what it cannot build from, and what it cannot build into', async () => {
    const [empty, full] = [join(work, 'empty'), join(work, 'full')];
    await mkdir(empty);
    await mkdir(full);
    await writeFile(join(full, 'letter.txt'), 'dear');
    const listless = await copyLayout(pulled, join(work, 'listless'));
    for (const name of ['ai-images.txt', 'ocp-images.txt']) await rm(join(listless, name));
    const to = join(work, 'refused');
    const noElf = join(work, 'no-elf');
    await writeFile(noElf, '#!/bin/sh\n');
    const cases = [
      [{ from: empty, to }, 'ERR_BUILD_INPUT', `${empty} holds neither oci-layout nor a .tgz`],
      [{ from: join(work, 'absent'), to }, 'ERR_BUILD_INPUT', `${join(work, 'absent')} cannot be read: it does not exist`],
      [
        { from: listless, to },
        'ERR_BUILD_INPUT',
        `${listless} holds no image list (ai-images.txt, initial-images*.txt, ocp-images.txt, ocp-images-*.txt, ocp_images.txt*), and none is given`,
      ],
      [{ from: pulled, to: full }, 'ERR_BUILD_OUTPUT', `${full} is not empty and not a bundle; it holds: letter.txt`],
      [{ from: pulled, to: pulled }, 'ERR_BUILD_OUTPUT', `${pulled} is also the folder to build from`],
      [{ from: pulled, to: noElf }, 'ERR_BUILD_OUTPUT', `${noElf} cannot be read as a folder: a part of its path is not a folder`],
      [{ from: pulled, to, agents: [noElf] }, 'ERR_BUILD_AGENT', `${noElf} is not a Linux executable for x64 or arm64`],
      [
        { from: pulled, to, agents: [join(work, 'x64'), join(work, 'x64')] },
        'ERR_BUILD_AGENT',
        `${join(work, 'x64')} is the second executable for prestage-agent`,
      ],
      [{ from: pulled, to, architecture: 's390x' }, 'ERR_ARCHITECTURE', undefined],
    ] as const;
    for (const [options, code, message] of cases) {
      const found = await failure(options);
      assert.equal(found.code, code);
      if (message !== undefined) assert.equal(found.message, message);
    }
  });

  it('looks for all programs that it takes before it makes anything', async () => {
    const bin = await mkdtemp(join(work, 'bin-'));
    for (const program of ['sh', 'tar'])
      await symlink((await output(execOnLinux, 'sh', ['-c', 'command -v "$1"', 'sh', program])).trim(), join(bin, program));
    const host = linuxHost({ root: '/', env: {}, log: () => undefined });
    const poor = { ...host, exec: async (file: string, args: readonly string[]) => await host.exec(file, args, { env: { PATH: bin } }) };
    await assert.rejects(requireTools(poor, ['archives', 'store', 'oci'], 'oci'), {
      code: 'ERR_TOOL_MISSING',
      message: 'the payloads need programs that are not installed: gzip, skopeo, podman, mksquashfs, veritysetup, unshare',
      remedy: 'Install: gzip, skopeo, podman, squashfs-tools, cryptsetup-bin (veritysetup), util-linux',
    });
    await requireTools(poor, ['archives', 'oci', 'registry'], 'archives');
  });

  it('builds for another architecture than its own', async () => {
    const to = join(work, 'foreign');
    const list = join(work, 'foreign.txt');
    await writeFile(list, listOf([set.images.indexByTag]));
    const agents = [join(work, 'x64'), join(work, 'arm64')];
    await runBuild({ from: pulled, to, lists: { discovery: list }, architecture: 'arm64', agents });
    const bundle = await bundleAt(to);
    assert.deepEqual(
      [bundle.architecture, Object.keys(bundle.stages), bundle.stages.discovery?.images.map((image) => image.manifestDigest)],
      ['arm64', ['discovery'], [set.images.indexByTag.digest]],
    );
    assert.equal((await readFile(join(to, 'prestage-agent'))).readUInt16LE(18), EM_AARCH64);
    assert.equal((await readFile(join(to, 'bin/prestage-agent-linux-x64'))).readUInt16LE(18), EM_X86_64);
  });
});
