import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { BUNDLE_FILE, parseBundle } from '../../agent/model/bundle.ts';
import { type Digest, digestOf, hexOf } from '../../agent/model/digest.ts';
import { treeBlobPath } from '../../agent/model/registry-path.ts';
import { listOf, runBuild, storesUnavailable } from '../support/build.ts';
import { runnableRoot } from '../support/image-files.ts';
import { makeLayer } from '../support/image-layer.ts';
import { makeImage, writeOciLayout } from '../support/images.ts';

const unavailable = storesUnavailable();

test('the metadata mirror does not answer for an operating system, whose layers nobody takes from a store', async (t) => {
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
  const built = join(work, 'built');
  await runBuild({ from: pulled, to: built, payloads: ['store'] });
  const [payload] = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built).payloads;
  assert.ok(payload?.kind === 'store');
  assert.deepEqual(payload.unmirrored, ['quay.io/example/system:v1']);
  const inMirror = (digest: Digest): boolean => existsSync(join(built, payload.mirror, treeBlobPath(digest)));
  assert.deepEqual([inMirror(tool.digest), inMirror(labelled)], [true, false]);
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
