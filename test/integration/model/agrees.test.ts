import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as v from 'valibot';
import { execOnLinux } from '../../../agent/host/exec.ts';
import { type Digest, digestOf, hexOf } from '../../../agent/model/digest.ts';
import { instanceFor, parseManifest } from '../../../agent/model/manifest.ts';
import { formatReference, readReference } from '../../../agent/model/reference.ts';
import { resolveSettings } from '../../../agent/model/settings.ts';
import { privateStorage } from '../../support/storage.ts';

// What agent/model says of references, indexes and storage paths, asked of the skopeo of this machine.

const CONFIG = JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs: { type: 'layers', diff_ids: [] } });

/** A manifest of an image without layers; the mark makes its digest its own. */
function manifestOf(mark: string): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf(CONFIG), size: CONFIG.length },
    layers: [],
    annotations: { mark },
  });
}

/** Writes a `dir:` image: its manifest, and further manifests where that is an index. */
async function writeDir(path: string, manifest: string, children: readonly string[] = []): Promise<void> {
  await mkdir(path);
  await writeFile(join(path, 'version'), 'Directory Transport Version: 1.1\n');
  await writeFile(join(path, 'manifest.json'), manifest);
  await writeFile(join(path, hexOf(digestOf(CONFIG))), CONFIG);
  for (const child of children) await writeFile(join(path, `${hexOf(digestOf(child))}.manifest.json`), child);
}

async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'model-agrees-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

async function copies(source: string, destination: string, ...options: readonly string[]): Promise<boolean> {
  const { exitCode } = await execOnLinux('skopeo', [
    '--insecure-policy',
    ...options,
    'copy',
    '-q',
    '--preserve-digests',
    source,
    destination,
  ]);
  return exitCode === 0;
}

test('skopeo stores images under the names that the model gives to references, and refuses those that it refuses', async () => {
  await using work = await temporaryDirectory();
  await using storage = await privateStorage(work.path);
  const image = join(work.path, 'image');
  await writeDir(image, manifestOf('x'));
  const hex = hexOf(digestOf(manifestOf('x')));
  const references = [
    ...[
      'busybox',
      'busybox:1',
      'a/b',
      'docker.io/busybox:2',
      'index.docker.io/busybox:3',
      'index.docker.io/a/c',
      'localhost',
      'localhost:5000',
    ],
    ...['localhost/a', 'localhost:5000/a', 'HOST.io/a/b:T', '10.0.0.1:5000/a', 'a_b/c', 'foo.bar:1', 'a.b/c__d', 'a.b/c--d', 'a.b/c:_x'],
    ...[
      'quay.io:443/a/b:t',
      'xn--a.de/a',
      `a.b/c:${'t'.repeat(128)}`,
      `a.b/${'c'.repeat(251)}`,
      `a/${'a'.repeat(64)}`,
      `sha256:${'a'.repeat(64)}`,
    ],
    ...[`busybox@sha256:${hex}`, `quay.io/a/b@sha256:${hex}`, `quay.io/a/b:t@sha256:${hex}`],
    ...[
      'Host/a',
      'quay.io/A/b',
      'quay.io/a//b',
      'quay.io/',
      'quay.io/a/-b',
      'a.b/c___d',
      'a.b/c..d',
      '/a',
      'quay.io/a:',
      'quay.io/a:.x',
      'a..b/c',
    ],
    ...[
      '-a.b/c',
      'a-.b/c',
      'host:port/a',
      ':5000/a',
      '[::1]:5000/a',
      'http://a.b/c',
      'quay.io/a@',
      `quay.io/a@sha256:${hex.toUpperCase()}`,
    ],
    ...[`a.b/c:${'t'.repeat(129)}`, `a.b/${'c'.repeat(252)}`, 'a'.repeat(64), 'quay.io/a/b:t ', `a@sha256:${hex}@sha256:${hex}`],
  ];
  const taken: string[] = [];
  for (const text of references) if (await copies(`dir:${image}`, storage.name(text))) taken.push(text);
  const read = references.map((text) => ({ text, reference: readReference(text) }));
  assert.deepEqual(
    taken,
    read.filter(({ reference }) => typeof reference !== 'string').map(({ text }) => text),
  );
  const records = await readFile(join(storage.graphroot, 'overlay-images/images.json'), 'utf8');
  const [record] = v.parse(v.strictTuple([v.object({ names: v.array(v.string()) })]), JSON.parse(records));
  assert.deepEqual(
    new Set(record.names),
    new Set(read.flatMap(({ reference }) => (typeof reference === 'string' ? [] : [formatReference(reference)]))),
  );
});

test('skopeo picks the instance of an index that the model picks', async () => {
  await using work = await temporaryDirectory();
  const indexes: readonly (readonly [string, ...(string | undefined)[]])[] = [
    ['amd64', 'linux/arm64', 'linux/amd64'],
    ['amd64', 'linux/amd64', 'linux/amd64'],
    ['amd64', 'windows/amd64', 'linux/amd64'],
    ['amd64', 'linux/amd64/v2', 'linux/amd64'],
    ['amd64', 'linux/amd64/v2'],
    ['amd64', undefined, 'linux/amd64'],
    ['amd64', 'linux/arm64', undefined],
    ['amd64', 'linux/s390x'],
    ['arm64', 'linux/amd64', 'linux/arm64/v8'],
    ['arm64', 'linux/amd64', 'linux/arm64'],
  ];
  for (const [number, [architecture, ...platforms]] of indexes.entries()) {
    const children = platforms.map((_, position) => manifestOf(`${position}`));
    const manifests = platforms.map((platform, position) => {
      const [os, name, variant] = platform?.split('/') ?? [];
      const child = children[position] ?? '';
      const descriptor = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: digestOf(child), size: child.length };
      return platform === undefined
        ? descriptor
        : { ...descriptor, platform: { os, architecture: name, ...(variant !== undefined && { variant }) } };
    });
    const text = JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests });
    const source = join(work.path, `index-${number}`);
    const copy = join(work.path, `copy-${number}`);
    await writeDir(source, text, children);
    const index = parseManifest(Buffer.from(text), source);
    assert.equal(index.kind, 'index');
    const wasCopied = await copies(`dir:${source}`, `dir:${copy}`, '--override-arch', architecture);
    const picked: Digest | undefined = wasCopied ? digestOf(await readFile(join(copy, 'manifest.json'))) : undefined;
    assert.equal(instanceFor(index, architecture)?.digest, picked, `${architecture} of ${platforms.join(', ')}`);
  }
});

test('skopeo takes the graphroots that the settings take', async () => {
  await using work = await temporaryDirectory();
  const image = join(work.path, 'image');
  await writeDir(image, manifestOf('x'));
  for (const character of ['+', ':', ']', '[', '@', ',', ' ', '=', '#', 'ü']) {
    const graphroot = join(work.path, `graph${character}root`);
    const isTaken = isSetting(graphroot);
    await copies(`dir:${image}`, `containers-storage:[overlay@${graphroot}+${join(work.path, 'runroot')}]quay.io/a/b:1`);
    const images = await readFile(join(graphroot, 'overlay-images/images.json'), 'utf8').catch(() => 'none');
    for (const made of [graphroot, join(work.path, 'graph')]) await execOnLinux('umount', [join(made, 'overlay')]);
    assert.equal(images.includes('quay.io/a/b:1'), isTaken, `graphroot ${graphroot}`);
  }
});

function isSetting(graphroot: string): boolean {
  try {
    return resolveSettings({ flags: { graphroot } }).graphroot === graphroot;
  } catch {
    return false;
  }
}
