import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { runProgram } from '../../../agent/cli/program.ts';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import type { BundlePayload } from '../../../agent/model/bundle.ts';
import { type Digest, hexOf } from '../../../agent/model/digest.ts';
import { parseReference } from '../../../agent/model/reference.ts';
import { registryRepository } from '../../../agent/model/registry-path.ts';
import { type VerifyReport, type VerifyRequest, verify } from '../../../agent/verify/verify.ts';
import { copyToDisk, disksUnavailable, makeDisk } from '../../support/disk.ts';
import { archiveName, writeArchives } from '../../support/image-archives.ts';
import { blobPath } from '../../support/image-layer.ts';
import { smallImageSet } from '../../support/image-set.ts';
import { blobsOf, type MadeImage, writeDirLayout, writeOciLayout } from '../../support/images.ts';
import { writeMirror } from '../../support/mirror-archives.ts';
import { piecesOf } from '../../support/pieces.ts';
import { type HandSealed, seal } from '../../support/sealed-bundle.ts';

const host = linuxHost({ root: '/', log: () => undefined, env: {} });
const set = await smallImageSet();
/** Two images share a layer, one is a list; small enough to be copied for each test. */
const IMAGES: readonly MadeImage[] = [set.images.agent, set.images.indexByTag, set.images.release];

async function workplace() {
  const work = await mkdtemp(join(tmpdir(), 'verify-'));
  return { work, folder: join(work, 'folder'), [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }) };
}

async function verifyAt(path: string, more: Partial<VerifyRequest> = {}): Promise<VerifyReport> {
  const signal = new AbortController().signal;
  return await verify(host, { path, mode: 'full', label: 'data', parallel: 2, architecture: 'amd64', signal, ...more });
}

/** Code and path of each fault. */
function brief(report: VerifyReport): readonly string[] {
  assert.equal(report.isSound, report.faults.length === 0);
  return report.faults.map((fault) => `${fault.code} ${fault.path}`);
}

/** Changes one byte and keeps the size. */
async function flip(path: string, at = 0.5): Promise<void> {
  const bytes = await readFile(path);
  const index = Math.floor(bytes.length * at);
  bytes[index] = (bytes[index] ?? 0) ^ 0xff;
  // Not in place: fixtures are hard links.
  await rm(path);
  await writeFile(path, bytes);
}

/** The folder of the prototype, with archives that may be changed. */
async function archivesAt(folder: string): Promise<void> {
  await writeArchives(set.store, folder, { lists: { 'ai-images.txt': [...IMAGES], 'ocp-images.txt': [set.images.release] } });
}

test('a folder of archives without a manifest is verified by its lists, quick and full', async () => {
  await using place = await workplace();
  await archivesAt(place.folder);
  const report = await verifyAt(place.folder);
  assert.deepEqual(report, {
    path: place.folder,
    source: 'folder',
    what: 'archives',
    mode: 'full',
    isSound: true,
    architecture: 'amd64',
    payloads: ['archives'],
    images: { discovery: 3, installed: 1 },
    files: 3,
    bytes: report.bytes,
    faults: [],
    notices: [],
  });
  assert.ok(report.bytes > 1_000_000);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), []);
});

test('of a folder of archives every fault is told: missing, exchanged, damaged, empty, not listed', async () => {
  await using place = await workplace();
  await writeArchives(set.store, place.folder, { lists: { 'ocp-images.txt': [set.images.whiteouts, set.images.links, ...IMAGES] } });
  const archive = (image: MadeImage) => `${archiveName(image.reference)}.tgz`;
  const at = (image: MadeImage) => join(place.folder, archive(image));
  await rm(at(set.images.agent));
  await flip(at(set.images.indexByTag), 0.9);
  await truncate(at(set.images.release), 0);
  // An image under the name of another: its own top directory gives it away.
  await rename(at(set.images.links), at(set.images.whiteouts));
  await writeFile(join(place.folder, 'stranger.tgz'), 'x');
  const report = await verifyAt(place.folder);
  const codes = Object.fromEntries(report.faults.map((fault) => [fault.path, fault.code]));
  assert.deepEqual(codes[archive(set.images.agent)], 'ERR_ARCHIVE_MISSING');
  assert.deepEqual(codes[archive(set.images.links)], 'ERR_ARCHIVE_MISSING');
  assert.match(codes[archive(set.images.indexByTag)] ?? '', /^ERR_ARCHIVE_(DAMAGED|DIGEST|TAR)$/);
  assert.match(codes[archive(set.images.release)] ?? '', /^ERR_ARCHIVE_(FORMAT|TRUNCATED)$/);
  assert.equal(codes[archive(set.images.whiteouts)], 'ERR_ARCHIVE_TOP');
  assert.equal(report.faults.length, 5);
  assert.ok(report.faults.every((fault) => fault.remedy.length > 10));
  assert.deepEqual(report.notices, [`${join(place.folder, 'stranger.tgz')} is not on any image list`]);
  const quick = brief(await verifyAt(place.folder, { mode: 'quick' }));
  assert.deepEqual(
    quick.toSorted(),
    [
      `ERR_ARCHIVE_FORMAT ${archive(set.images.release)}`,
      `ERR_ARCHIVE_MISSING ${archive(set.images.agent)}`,
      `ERR_ARCHIVE_MISSING ${archive(set.images.links)}`,
    ].toSorted(),
  );
});

test('an archive that holds another image than its digest reference says is told with both digests', async () => {
  await using place = await workplace();
  await writeArchives(set.store, place.folder, { lists: { 'ocp-images.txt': [set.images.links] } });
  const wanted: Digest = `sha256:${'0'.repeat(64)}`;
  const [name = ''] = set.images.links.reference.split('@');
  const [from, to] = [archiveName(set.images.links.reference), archiveName(`${name}@${wanted}`)];
  await output(execOnLinux, 'sh', [
    '-c',
    'cd "$1" && tar xzf "$2.tgz" && mv "$2" "$3" && tar czf "$3.tgz" "$3" && rm -r "$3" "$2.tgz"',
    'sh',
    place.folder,
    from,
    to,
  ]);
  await writeFile(join(place.folder, 'ocp-images.txt'), `${name}@${wanted}\n`);
  const report = await verifyAt(place.folder);
  assert.deepEqual(report.faults, [
    {
      path: `${to}.tgz`,
      code: 'ERR_ARCHIVE_REFERENCE',
      message: `${join(place.folder, `${to}.tgz`)} holds ${set.images.links.digest}, but ${name}@${wanted} should be ${wanted}`,
      remedy: 'Write the archive again at the factory',
    },
  ]);
});

test('archives of oc-mirror are verified to their ends, and in full every blob in them', async () => {
  await using place = await workplace();
  const images = IMAGES.map((image, index) => ({ repository: `e/x${index}`, tag: 'v1', image }));
  const paths = await writeMirror(place.folder, { store: set.store, images, archives: 3 });
  for (const mode of ['quick', 'full'] as const) {
    const report = await verifyAt(place.folder, { mode });
    assert.deepEqual([report.what, report.files, report.faults], ['oc-mirror', 3, []]);
  }
  const [first = '', second = '', third = ''] = paths;
  const whole = await readFile(first);
  await flip(third, 0.5);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), []);
  assert.deepEqual(brief(await verifyAt(place.folder)), ['ERR_ARCHIVE_DIGEST mirror_000003.tar']);
  await writeFile(first, gzipSync(whole));
  await rm(second);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), [
    'ERR_ARCHIVE_MISSING mirror_000002.tar',
    'ERR_ARCHIVE_TAR mirror_000001.tar',
  ]);
  // Cut within the last blob: one fault, not two.
  await writeFile(first, whole.subarray(0, whole.length - 2000));
  assert.deepEqual(brief(await verifyAt(place.folder)), [
    'ERR_ARCHIVE_MISSING mirror_000002.tar',
    'ERR_ARCHIVE_TRUNCATED mirror_000001.tar',
    'ERR_ARCHIVE_DIGEST mirror_000003.tar',
  ]);
});

test('an OCI layout is verified from its index to its blobs', async () => {
  await using place = await workplace();
  await writeOciLayout(set.store, IMAGES, place.folder);
  assert.deepEqual(brief(await verifyAt(place.folder)), []);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), []);
  const [one, two, three] = IMAGES.map((image) => image.instances[0]?.layers.at(-1)?.digest);
  assert.ok(one !== undefined && two !== undefined && three !== undefined);
  const path = (digest: Digest) => `blobs/sha256/${hexOf(digest)}`;
  await flip(join(place.folder, path(one)));
  await rm(join(place.folder, path(two)));
  const whole = await readFile(join(place.folder, path(three)));
  await rm(join(place.folder, path(three)));
  await writeFile(join(place.folder, path(three)), whole.subarray(0, 100));
  const both = [`ERR_LAYOUT_BLOB ${path(two)}`, `ERR_LAYOUT_BLOB ${path(three)}`];
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), both);
  assert.deepEqual(brief(await verifyAt(place.folder)).toSorted(), [`ERR_LAYOUT_BLOB ${path(one)}`, ...both].toSorted());
  await writeFile(join(place.folder, 'index.json'), '{"schemaVersion": 2, "manifests": [{}]}');
  assert.ok(brief(await verifyAt(place.folder, { mode: 'quick' })).includes('ERR_LAYOUT index.json'));
});

test('a manifest that was exchanged for another valid one is found, also quick', async () => {
  await using place = await workplace();
  await writeOciLayout(set.store, IMAGES, place.folder);
  const { agent, release } = set.images;
  await rm(blobPath(place.folder, agent.digest));
  await cp(blobPath(place.folder, release.digest), blobPath(place.folder, agent.digest));
  const report = await verifyAt(place.folder, { mode: 'quick' });
  assert.deepEqual(
    report.faults.map((fault) => fault.message),
    [`${blobPath(place.folder, agent.digest)}, the manifest of ${agent.reference}, has the digest ${release.digest}`],
  );
});

/** A registry tree as distribution has it, with the source's host in the repository. */
async function writeRegistry(directory: string, content: 'all' | 'metadata'): Promise<void> {
  const root = join(directory, 'docker/registry/v2');
  const write = async (path: string, text: string) => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  };
  for (const image of IMAGES) {
    const reference = parseReference(image.reference);
    const manifests = `repositories/${registryRepository(reference)}/_manifests`;
    await write(`${manifests}/revisions/sha256/${hexOf(image.digest)}/link`, image.digest);
    if (reference.tag !== undefined) await write(`${manifests}/tags/${reference.tag}/current/link`, image.digest);
    const metadata = image.instances.flatMap((instance) => [instance.manifest, instance.config]);
    for (const { digest } of [image.manifest, ...metadata, ...(content === 'all' ? blobsOf(image) : [])]) {
      const path = `blobs/sha256/${hexOf(digest).slice(0, 2)}/${hexOf(digest)}/data`;
      await mkdir(dirname(join(root, path)), { recursive: true });
      await cp(blobPath(set.store, digest), join(root, path));
    }
  }
}

const PAYLOADS: readonly BundlePayload[] = [
  { kind: 'archives', path: 'archives' },
  { kind: 'oci', path: 'oci' },
  { kind: 'registry', path: 'registry' },
];

async function makeBundle(folder: string, damage: () => Promise<void> = async () => undefined): Promise<HandSealed> {
  await writeArchives(set.store, join(folder, 'archives'), { lists: { 'ocp-images.txt': IMAGES } });
  await writeOciLayout(set.store, IMAGES, join(folder, 'oci'));
  await writeRegistry(join(folder, 'registry'), 'all');
  await damage();
  return await seal({ directory: folder, stage: 'installed', images: IMAGES, payloads: PAYLOADS });
}

test('a sealed bundle with several payloads is sound, quick and full, with its pin', async () => {
  await using place = await workplace();
  const { sha256 } = await makeBundle(place.folder);
  const seen: number[] = [];
  const report = await verifyAt(place.folder, { bundleSha256: sha256, onProgress: ({ bytes }) => seen.push(bytes) });
  assert.deepEqual(report, {
    path: place.folder,
    source: 'folder',
    mode: 'full',
    isSound: true,
    architecture: 'amd64',
    what: 'bundle',
    release: '4.14.0',
    bundleSha256: sha256,
    payloads: ['archives', 'oci', 'registry'],
    images: { installed: 3 },
    files: report.files,
    bytes: seen.at(-1),
    faults: [],
    notices: [],
  });
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick', bundleSha256: sha256 })), []);
});

test('damage after the sealing is told by file; quick finds what changes the size, full all of it', async () => {
  await using place = await workplace();
  await makeBundle(place.folder);
  const layer = set.images.agent.instances[0]?.layers.at(-1)?.digest ?? set.images.agent.digest;
  const [blob, archive] = [`oci/blobs/sha256/${hexOf(layer)}`, `archives/${archiveName(set.images.release.reference)}.tgz`];
  await flip(join(place.folder, blob));
  await truncate(join(place.folder, archive), 1000);
  await writeFile(join(place.folder, 'notes.txt'), 'of a person');
  // The record of a build is not a stranger.
  await mkdir(join(place.folder, '.build'), { recursive: true });
  const short = `ERR_BUNDLE_FILE ${archive}`;
  const quick = await verifyAt(place.folder, { mode: 'quick' });
  assert.deepEqual([brief(quick), quick.notices], [[short], ['notes.txt does not belong to the bundle']]);
  assert.deepEqual(brief(await verifyAt(place.folder)), [short, `ERR_BUNDLE_FILE ${blob}`]);
});

test('a bundle that was sealed wrong is told, too: each payload must have each image', async () => {
  await using place = await workplace();
  const { agent, indexByTag, release } = set.images;
  const layer = release.instances[0]?.layers.at(-1)?.digest ?? release.digest;
  const blob = `oci/blobs/sha256/${hexOf(layer)}`;
  const tag =
    'registry/docker/registry/v2/repositories/quay.io/edge-infrastructure/assisted-installer-agent/_manifests/tags/latest/current/link';
  await makeBundle(place.folder, async () => {
    await flip(join(place.folder, blob));
    await writeFile(join(place.folder, tag), indexByTag.digest);
    const index = JSON.parse(await readFile(join(place.folder, 'oci/index.json'), 'utf8'));
    await writeFile(join(place.folder, 'oci/index.json'), JSON.stringify({ ...index, manifests: index.manifests.slice(1) }));
    await writeFile(join(place.folder, 'archives/ocp-images.txt'), `${agent.reference}\n${indexByTag.reference}\n`);
  });
  for (const mode of ['quick', 'full'] as const) {
    const report = await verifyAt(place.folder, { mode });
    assert.deepEqual(
      report.faults.map((fault) => `${fault.path}: ${fault.message}`).toSorted(),
      [
        `archives: the image list of the stage installed lacks ${release.reference}, which is in prestage.json`,
        `oci/index.json: ${join(place.folder, 'oci/index.json')} lacks ${agent.digest}, the manifest of ${agent.reference}`,
        report.faults
          .filter((fault) => fault.path === blob)
          .map((fault) => `${blob}: ${fault.message}`)
          .join(),
        `${tag}: ${join(place.folder, tag)} leads ${agent.reference} to "${indexByTag.digest}", not to ${agent.digest}`,
      ].toSorted(),
    );
    assert.match(report.faults.find((fault) => fault.path === blob)?.message ?? '', /has the sha256 [0-9a-f]{64}, which is not its name$/);
    assert.deepEqual(report.notices, [`${join(place.folder, 'archives', archiveName(release.reference))}.tgz is not on any image list`]);
  }
});

test('another pin, a half-written bundle and an unreadable manifest are faults, told together with the files', async () => {
  await using place = await workplace();
  await makeBundle(place.folder);
  await writeFile(join(place.folder, 'prestage.json.partial'), '');
  await rm(join(place.folder, 'oci/oci-layout'));
  const report = await verifyAt(place.folder, { mode: 'quick', bundleSha256: '0'.repeat(64) });
  assert.deepEqual(brief(report), [
    'ERR_BUNDLE_PARTIAL prestage.json.partial',
    'ERR_BUNDLE_PIN prestage.json',
    'ERR_BUNDLE_FILE oci/oci-layout',
    'ERR_LAYOUT oci/index.json',
  ]);
  await writeFile(join(place.folder, 'prestage.json'), '{');
  assert.deepEqual(brief(await verifyAt(place.folder)), ['ERR_BUNDLE_PARTIAL prestage.json.partial', 'ERR_BUNDLE prestage.json']);
  await rm(join(place.folder, 'prestage.json'));
  assert.deepEqual(brief(await verifyAt(place.folder)), ['ERR_BUNDLE_PARTIAL prestage.json.partial']);
});

test('a folder without a manifest does not pass for the one that is pinned', async () => {
  await using place = await workplace();
  await archivesAt(place.folder);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick', bundleSha256: '0'.repeat(64) })), ['ERR_BUNDLE_PIN prestage.json']);
});

test('a folder that holds nothing to verify is refused with what lies there', async () => {
  await using place = await workplace();
  await mkdir(place.folder);
  await writeFile(join(place.folder, 'holiday.jpg'), '');
  await assert.rejects(verifyAt(place.folder), {
    code: 'ERR_PAYLOAD_MISSING',
    message: `${place.folder} holds no prestage.json, OCI layout or image list; it holds: holiday.jpg`,
  });
  await assert.rejects(verifyAt(join(place.work, 'nowhere')), { code: 'ERR_PAYLOAD_MISSING' });
});

/** A store image of the images with its hash tree, made by skopeo, mksquashfs and veritysetup. */
async function writeStore(work: string, folder: string): Promise<BundlePayload> {
  const [graph, run, layout] = [join(work, 'graph'), join(work, 'run'), join(work, 'layout')];
  await mkdir(folder, { recursive: true });
  for (const image of IMAGES) {
    await writeDirLayout(set.store, image, join(layout, archiveName(image.reference)));
    const destination = `containers-storage:[overlay@${graph}+${run}]${image.reference}`;
    // In mounts of its own: what containers-storage mounts below the graphroot goes with them.
    await output(execOnLinux, 'unshare', [
      '--mount',
      'skopeo',
      'copy',
      '-q',
      `dir:${join(layout, archiveName(image.reference))}`,
      destination,
    ]);
  }
  await mkdir(join(folder, 'store'), { recursive: true });
  const [image, hashTree] = ['store/installed.squashfs', 'store/installed.verity'];
  await output(execOnLinux, 'mksquashfs', [graph, join(folder, image), '-comp', 'zstd', '-noappend', '-quiet', '-no-progress']);
  const text = await output(execOnLinux, 'veritysetup', ['format', join(folder, image), join(folder, hashTree)]);
  const rootHash = /^Root hash:\s+([0-9a-f]{64})$/m.exec(text)?.[1] ?? '';
  await writeRegistry(join(folder, 'store/installed.mirror'), 'metadata');
  return { kind: 'store', stage: 'installed', image, verity: { hashTree, rootHash }, mirror: 'store/installed.mirror' };
}

test('a store image is verified with its hash tree, its mirror and the names in it', async () => {
  await using place = await workplace();
  const payload = await writeStore(place.work, place.folder);
  assert.ok(payload.kind === 'store');
  const sealWith = async (one: BundlePayload) =>
    await seal({ directory: place.folder, stage: 'installed', images: IMAGES, payloads: [one] });
  await sealWith(payload);
  assert.deepEqual(brief(await verifyAt(place.folder)), []);

  await sealWith({ ...payload, registryImage: 'quay.io/example/registry:1' });
  assert.deepEqual(
    (await verifyAt(place.folder)).faults.map((fault) => fault.message),
    ['store/installed.squashfs: the registry image quay.io/example/registry:1 is not in the store'],
  );
  const bytes = await readFile(join(place.folder, payload.image));
  const pieces = piecesOf(bytes, 2 ** 20);
  await sealWith({ ...payload, pieces });
  assert.deepEqual(brief(await verifyAt(place.folder)), []);
  await sealWith({ ...payload, pieces: { ...pieces, sha256: [...pieces.sha256.slice(0, -1), '0'.repeat(64)] } });
  assert.deepEqual(brief(await verifyAt(place.folder)), ['ERR_BUNDLE_FILE store/installed.squashfs']);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), []);
  await sealWith({ ...payload, verity: { ...payload.verity, rootHash: '0'.repeat(64) } });
  assert.deepEqual(brief(await verifyAt(place.folder)), ['ERR_BUNDLE_FILE store/installed.verity']);
  await sealWith(payload);
  await flip(join(place.folder, payload.image));
  assert.deepEqual(brief(await verifyAt(place.folder)), [
    'ERR_BUNDLE_FILE store/installed.squashfs',
    'ERR_BUNDLE_FILE store/installed.verity',
  ]);
  assert.deepEqual(brief(await verifyAt(place.folder, { mode: 'quick' })), []);
});

test('a disk, its partition and an image of it are verified by their label, and nothing stays mounted or attached', async () => {
  const reason = await disksUnavailable();
  assert.equal(reason, undefined, reason);
  await using place = await workplace();
  const { sha256 } = await makeBundle(place.folder);
  {
    await using disk = await makeDisk({ directory: place.work, label: 'data' });
    await copyToDisk(disk, place.work, place.folder);
    const whole = await verifyAt(disk.device);
    assert.deepEqual([whole.source, whole.device, whole.bundleSha256, brief(whole)], ['device', disk.partition, sha256, []]);
    assert.deepEqual(brief(await verifyAt(disk.partition, { mode: 'quick', label: 'another' })), []);
    await assert.rejects(verifyAt(disk.device, { label: 'other' }), { code: 'ERR_PARTITION_MISSING' });
    const [made = ''] = await readdir(place.work).then((names) => names.filter((name) => name.startsWith('disk-')));
    await cp(join(place.work, made, 'disk.img'), join(place.work, 'copy.img'));
  }
  const image = await verifyAt(join(place.work, 'copy.img'));
  assert.deepEqual([image.source, image.bundleSha256, brief(image)], ['image', sha256, []]);
  const loops = await output(execOnLinux, 'losetup', ['--associated', join(place.work, 'copy.img')]);
  assert.equal(loops, '');
  assert.equal((await readFile('/proc/self/mounts', 'utf8')).includes(`/run/prestage-agent/partitions/${process.pid}-`), false);
});

test('an image of a file system without a partition table is verified as it is', async () => {
  await using place = await workplace();
  await writeOciLayout(set.store, IMAGES, place.folder);
  const image = join(place.work, 'data.img');
  await output(execOnLinux, 'mkfs.ext4', ['-q', '-d', place.folder, image, '300M']);
  const report = await verifyAt(image, { mode: 'quick' });
  assert.deepEqual([report.source, report.what, brief(report)], ['image', 'oci', []]);
});

async function runAt(...args: readonly string[]) {
  const written = { out: '', err: '' };
  const exitCode = await runProgram(args, {
    out: { write: (text: string) => (written.out += text) },
    err: { write: (text: string) => (written.err += text) },
    env: {},
    stop: new AbortController().signal,
    kill: new AbortController().signal,
  });
  return { exitCode, ...written };
}

test('the command ends with 0 or 6, and says the same as text and as JSON', async () => {
  await using place = await workplace();
  await writeOciLayout(set.store, IMAGES, place.folder);
  const sound = await runAt('verify', place.folder);
  assert.equal(sound.exitCode, 0, sound.err);
  assert.match(sound.out, /^sound \(every byte read, [\d.]+ s\)\n/);
  const layer = set.images.agent.instances[0]?.layers.at(-1)?.digest ?? set.images.agent.digest;
  await flip(blobPath(place.folder, layer));
  const text = await runAt('verify', place.folder);
  assert.equal(text.exitCode, 6);
  assert.match(text.out, /^faulty: 1 fault \(every byte read/);
  assert.match(text.out, new RegExp(`blobs/sha256/${hexOf(layer)}: .*\\n {6}ERR_LAYOUT_BLOB; next: Write the bundle again`));
  const json = await runAt('verify', place.folder, '--output', 'json');
  assert.equal(json.exitCode, 6);
  const report = JSON.parse(json.out);
  assert.deepEqual(
    [report.kind, report.isSound, report.faults.length, report.faults[0].path],
    ['VerifyReport', false, 1, `blobs/sha256/${hexOf(layer)}`],
  );
  assert.equal((await runAt('verify', place.folder, '--quick')).exitCode, 0);
  assert.equal((await runAt('verify', place.folder, '--quick', '--full')).exitCode, 2);
  assert.equal((await runAt('verify')).exitCode, 2);
});
