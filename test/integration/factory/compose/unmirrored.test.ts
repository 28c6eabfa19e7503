import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { OsImageChoice } from '../../../../agent/factory/compose/os-images.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { BUNDLE_FILE, parseBundle } from '../../../../agent/model/bundle.ts';
import { type Digest, digestOf, hexOf } from '../../../../agent/model/digest.ts';
import { treeBlobPath } from '../../../../agent/model/registry-path.ts';
import { verify } from '../../../../agent/verify/verify.ts';
import { listOf, runBuild, storesUnavailable } from '../../../support/build.ts';
import { runnableRoot } from '../../../support/image-files.ts';
import { makeLayer } from '../../../support/image-layer.ts';
import { makeImage, writeOciLayout } from '../../../support/images.ts';

const unavailable = storesUnavailable();

test('the metadata tree does not answer for an operating system: it lies beside it whole, in the store, both, or is left out', async (t) => {
  if (unavailable !== undefined) return t.skip(unavailable);
  const work = await mkdtemp(join(tmpdir(), 'unmirrored-'));
  t.after(async () => await rm(work, { recursive: true, force: true }));
  const base = await makeLayer(work, await runnableRoot(['sh']));
  const tool = await makeImage(work, { name: 'quay.io/example/tool', tag: 'v1', format: 'oci', layers: [base] });
  const system = await makeImage(work, { name: 'quay.io/example/system', tag: 'v1', format: 'oci', layers: [base] });
  const pulled = join(work, 'pulled');
  await mkdir(pulled);
  await writeOciLayout(work, [tool, system], pulled);
  await writeFile(join(pulled, 'ocp-images.txt'), listOf([tool, system]));
  const labelled = await label(pulled, system.digest, { 'ostree.bootable': 'true' });
  const reference = 'quay.io/example/system:v1';
  const buildWith = async (osImages?: OsImageChoice) => {
    const built = join(work, `built-${osImages ?? 'default'}`);
    const { report } = await runBuild({ from: pulled, to: built, payloads: ['store', 'oci'], ...(osImages && { osImages }) });
    const bundle = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built);
    const [payload] = bundle.payloads;
    assert.ok(payload?.kind === 'store');
    const has = (path: string | undefined, digest: Digest): boolean =>
      path !== undefined && existsSync(join(built, path, treeBlobPath(digest)));
    const inMirror = [tool.digest, labelled, base.digest].map((digest) => has(payload.mirror, digest));
    const inTree = [tool.digest, labelled, base.digest].map((digest) => has(payload.osTree, digest));
    const listed = bundle.stages.installed?.images.map((image) => image.reference);
    const { faults } = await verify(linuxHost({ root: '/', env: {}, log: () => undefined }), {
      path: built,
      mode: 'full',
      label: 'data',
      parallel: 2,
      signal: new AbortController().signal,
    });
    assert.deepEqual(faults, []);
    return { payload, inMirror, inTree, listed, report };
  };
  const byDefault = await buildWith();
  assert.deepEqual(
    [byDefault.payload.unmirrored, byDefault.payload.unstored, byDefault.payload.osTree],
    [[reference], [reference], 'store/installed.os'],
  );
  assert.deepEqual(
    [byDefault.inMirror, byDefault.inTree],
    [
      [true, false, false],
      [false, true, true],
    ],
  );
  assert.deepEqual(byDefault.report.osImages, {
    choice: 'serve',
    reason: 'the release is not known',
    references: [reference],
    layerBytes: base.sizeBytes,
  });
  const stored = await buildWith('store');
  assert.deepEqual([stored.payload.unmirrored, stored.payload.unstored, stored.payload.osTree], [[reference], undefined, undefined]);
  assert.deepEqual(
    [stored.inMirror, stored.inTree],
    [
      [true, false, false],
      [false, false, false],
    ],
  );
  const both = await buildWith('both');
  assert.deepEqual([both.payload.unmirrored, both.payload.unstored, both.payload.osTree], [[reference], undefined, 'store/installed.os']);
  const omitted = await buildWith('omit');
  assert.deepEqual([omitted.listed, omitted.payload.unmirrored], [[tool.reference], undefined]);
});

/** Gives the image of a layout labels, and so another digest. */
async function label(layout: string, digest: Digest, labels: Readonly<Record<string, string>>): Promise<Digest> {
  const read = async (blob: Digest) => JSON.parse(await readFile(join(layout, 'blobs/sha256', hexOf(blob)), 'utf8'));
  const write = async (content: unknown): Promise<{ digest: Digest; size: number }> => {
    const text = JSON.stringify(content);
    await writeFile(join(layout, 'blobs/sha256', hexOf(digestOf(text))), text);
    return { digest: digestOf(text), size: text.length };
  };
  const manifest = await read(digest);
  const config = await read(manifest.config.digest);
  const relabelled = await write({ ...config, config: { ...config.config, Labels: labels } });
  const changed = await write({ ...manifest, config: { ...manifest.config, ...relabelled } });
  const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'));
  const manifests = index.manifests.map((entry: { digest: Digest }) => (entry.digest === digest ? { ...entry, ...changed } : entry));
  await writeFile(join(layout, 'index.json'), JSON.stringify({ ...index, manifests }));
  return changed.digest;
}

test('an operating system that only the release knows by name is served beside the store', async (t) => {
  if (unavailable !== undefined) return t.skip(unavailable);
  const work = await mkdtemp(join(tmpdir(), 'components-'));
  t.after(async () => await rm(work, { recursive: true, force: true }));
  const base = await makeLayer(work, await runnableRoot(['sh']));
  const system = await makeImage(work, { name: 'quay.io/openshift-release-dev/ocp-v4.0-art-dev', format: 'docker', layers: [base] });
  const tags = [{ name: 'machine-os-content', from: { kind: 'DockerImage', name: system.reference } }];
  const content = JSON.stringify({ kind: 'ImageStream', metadata: { name: '4.11.0' }, spec: { tags } });
  const list = await makeLayer(work, [{ kind: 'file', path: 'release-manifests/image-references', content }]);
  const release = await makeImage(work, {
    name: 'quay.io/openshift-release-dev/ocp-release',
    tag: '4.11.0-x86_64',
    format: 'docker',
    layers: [base, list],
    labels: { 'io.openshift.release': '4.11.0' },
  });
  const [pulled, built] = [join(work, 'pulled'), join(work, 'built')];
  await mkdir(pulled);
  await writeOciLayout(work, [release, system], pulled);
  await writeFile(join(pulled, 'ocp-images.txt'), listOf([release, system]));
  const { report } = await runBuild({ from: pulled, to: built, payloads: ['store'] });
  assert.deepEqual(report.osImages?.references, [system.reference]);
  const [payload] = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built).payloads;
  assert.deepEqual(payload?.kind === 'store' && [payload.unmirrored, payload.unstored, payload.osTree], [
    [system.reference],
    [system.reference],
    'store/installed.os',
  ]);
});
