import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readStageBundle } from '../../../../agent/bundle/read-payload.ts';
import { imageEntries, layoutBlobPath, readOciLayout, withoutAttached } from '../../../../agent/extract/oci-layout.ts';
import { createArchivePool } from '../../../../agent/extract/pool.ts';
import { plainAct } from '../../../../agent/host/acts.ts';
import { linuxHost } from '../../../../agent/host/linux.ts';
import { attachedTag, referrersTag } from '../../../../agent/model/attached.ts';
import { BUNDLE_FILE, type BundleImage, formatBundle, parseBundle } from '../../../../agent/model/bundle.ts';
import { parseReference } from '../../../../agent/model/reference.ts';
import { registryRepository, treeBlobPath, treeRepositoryPath } from '../../../../agent/model/registry-path.ts';
import { layoutTree } from '../../../../agent/tree/layout-tree.ts';
import { copyTree } from '../../../../agent/tree/tree-copy.ts';
import { treeImages } from '../../../../agent/tree/tree-images.ts';
import { verify } from '../../../../agent/verify/verify.ts';
import { BUNDLE_TYPE } from '../../../support/attaching.ts';
import { runBuild } from '../../../support/build.ts';
import { type Cosign, makeCosign } from '../../../support/cosign.ts';
import { makeLayer } from '../../../support/image-layer.ts';
import { type MadeImage, makeImage } from '../../../support/images.ts';
import { tryPull } from '../../../support/pulls.ts';
import { type Registry, startRegistry } from '../../../support/registry.ts';

/** From what cosign attaches in a registry to what a client finds at the registry of a node, by the programs that people use. */
describe('what is attached to an image', () => {
  let work: string;
  let source: Registry;
  let cosign: Cosign;
  let image: MadeImage;
  let reference: string;
  let pulled: string;
  let built: string;
  let described: BundleImage | undefined;
  const host = linuxHost({ root: '/', env: {}, log: () => undefined });

  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'build-attachments-'));
    [pulled, built] = [join(work, 'pulled'), join(work, 'built')];
    const store = join(work, 'store');
    const layer = await makeLayer(store, [{ path: 'etc', kind: 'directory' }]);
    image = await makeImage(store, { name: 'quay.io/example/tool', tag: 'v1', format: 'oci', layers: [layer] });
    source = await startRegistry({ isWritable: true });
    [reference = ''] = await source.add(store, [image]);
    cosign = await makeCosign(join(work, 'cosign'));
    const predicate = join(work, 'predicate.json');
    await writeFile(predicate, '{"checked":true}');
    await cosign.attest(byDigest(reference), predicate, false);
    await cosign.attest(byDigest(reference), predicate, true);
    await cosign.attachSbom(byDigest(reference), predicate);
    const { report } = await tryPull(pulled, [reference], { attachments: true });
    assert.equal(report.outcome, 'complete', JSON.stringify(report));
    await writeFile(join(pulled, 'ocp-images.txt'), `${reference}\n`);
    await runBuild({ from: pulled, to: built, payloads: ['oci', 'registry'] });
    [described] = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built).stages.installed?.images ?? [];
  });
  after(async () => {
    await source?.[Symbol.asyncDispose]();
    await rm(work, { recursive: true, force: true });
  });

  const byDigest = (tagged: string): string => `${tagged.slice(0, tagged.lastIndexOf(':'))}@${image.digest}`;
  const faultsOf = async (mode: 'quick' | 'full'): Promise<readonly string[]> => {
    const { signal } = new AbortController();
    return (await verify(host, { path: built, mode, label: 'data', parallel: 1, signal })).faults.map(({ message }) => message);
  };

  it('is named in the bundle with its image, by kind, and is no image there or in a layout', async () => {
    const kinds = (described?.attachments ?? []).map((one) => [one.kind, one.subject, 'artifactType' in one ? one.artifactType : '']);
    assert.deepEqual(kinds, [
      ['referrer', image.digest, BUNDLE_TYPE],
      ['att', image.digest, ''],
      ['sbom', image.digest, ''],
    ]);
    for (const layout of [pulled, join(built, 'oci')]) {
      const entries = await readOciLayout(layout);
      assert.deepEqual(
        entries.map((entry) => entry.reference.slice(reference.lastIndexOf(':') + 1)),
        ['v1', referrersTag(image.digest), attachedTag(image.digest, 'att'), attachedTag(image.digest, 'sbom')],
      );
      assert.deepEqual(
        imageEntries(entries).map((entry) => entry.digest),
        [image.digest],
      );
    }
    const { payload } = await readStageBundle({ directory: pulled, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined });
    assert.deepEqual((await payload()).listed, [reference]);
  });

  it('is no image in a layout of another tool, by the subject that its manifest names', async () => {
    const layout = join(work, 'other');
    await cp(pulled, layout, { recursive: true });
    const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'));
    const referrer = described?.attachments?.find(({ kind }) => kind === 'referrer')?.manifest;
    index.manifests.push({ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: referrer, size: 1 });
    await writeFile(join(layout, 'index.json'), JSON.stringify(index));
    assert.equal((await readOciLayout(layout)).length, 5);
    assert.deepEqual(
      (await withoutAttached(layout, await readOciLayout(layout))).map((entry) => entry.digest),
      [image.digest],
    );
  });

  it('is found and verified by cosign at a registry that serves the tree, offline', async () => {
    await source[Symbol.asyncDispose]();
    await using node = await startRegistry();
    // What a node serves: links and manifests copied into memory, blobs by links to the partition.
    const from = join(built, 'registry');
    const sealed = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built).files;
    const files = sealed
      .filter(({ path }) => path.startsWith('registry/'))
      .map((file) => ({ ...file, path: file.path.slice('registry/'.length) }));
    const onNode = { ...host, root: join(work, 'root') };
    const { path } = await copyTree(onNode, { from, files, act: plainAct, signal: new AbortController().signal });
    assert.deepEqual(
      (await treeImages(path)).map(({ digest, tags }) => [digest, tags]),
      [[image.digest, ['v1']]],
    );
    await cp(path, node.root, { recursive: true, dereference: true });
    const served = `${node.host}/${registryRepository(parseReference(reference))}@${image.digest}`;
    for (const isBundle of [false, true]) assert.match(await cosign.verifyAttestation(served, isBundle), /payload/);
    assert.equal(await cosign.downloadSbom(served), '{"checked":true}');
  });

  it('is in the tree that a node makes of the layout, and costs no image if it is damaged', async () => {
    const log: string[] = [];
    const { payload } = await readStageBundle({ directory: built, stage: 'installed', architecture: 'amd64', pinnedSha256: undefined });
    const images = (await payload()).images.filter((one) => one.kind === 'layout');
    await using pool = createArchivePool({ size: 1, log: () => undefined });
    const made = async (name: string): Promise<ReadonlySet<string>> => {
      const to = join(work, name);
      const request = { images, to, pool, parallel: 1, act: plainAct, signal: new AbortController().signal };
      const { images: served } = await layoutTree({ ...host, log: (_, text) => log.push(text) }, request);
      assert.equal(served, 1);
      const entries = await readdir(join(to, 'docker'), { recursive: true, withFileTypes: true });
      return new Set(entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(to.length + 1)));
    };
    const wanted = parseBundle(await readFile(join(built, BUNDLE_FILE), 'utf8'), built).files.map(({ path }) => path);
    assert.deepEqual(
      await made('node'),
      new Set(wanted.filter((path) => path.startsWith('registry/')).map((path) => path.slice('registry/'.length))),
    );
    assert.deepEqual(log, []);
    const blob = layoutBlobPath(join(built, 'oci'), described?.attachments?.[0]?.manifest ?? image.digest);
    await rename(blob, join(work, 'away'));
    const without = await made('damaged');
    await rename(join(work, 'away'), blob);
    assert.deepEqual(
      [...without].filter((path) => path.includes('/tags/sha256-')),
      [],
    );
    assert.deepEqual(log, [`${reference} is served without its attachments: ${blob} is missing or does not match its digest`]);
  });

  it('is verified with the bundle: its bytes, and the tags that lead to it', async () => {
    assert.deepEqual(await faultsOf('full'), []);
    const [referrer, att] = described?.attachments ?? [];
    const home = `registry/${treeRepositoryPath(registryRepository(parseReference(reference)))}/_manifests/tags`;
    const without = async (path: string): Promise<readonly string[]> => {
      const text = await readFile(join(built, BUNDLE_FILE), 'utf8');
      const bundle = parseBundle(text, built);
      await writeFile(join(built, BUNDLE_FILE), formatBundle({ ...bundle, files: bundle.files.filter((file) => file.path !== path) }));
      await rename(join(built, path), join(work, 'away'));
      const faults = await faultsOf('quick');
      await rename(join(work, 'away'), join(built, path));
      await writeFile(join(built, BUNDLE_FILE), text);
      return faults;
    };
    const name = `${reference.slice(0, reference.lastIndexOf(':'))}:${attachedTag(image.digest, 'att')}`;
    assert.deepEqual(await without(`${home}/${attachedTag(image.digest, 'att')}/current/link`), [
      `${name} is missing; it should lead to the attachment ${att?.manifest}`,
    ]);
    const blob = `registry/${treeBlobPath(referrer?.manifest ?? image.digest)}`;
    const [lost = '', ...more] = await without(blob);
    assert.deepEqual(more, []);
    assert.match(lost, /, the manifest of .* \(referrer sha256:[0-9a-f]{64}\), cannot be read: it does not exist$/);
    const whole = await readFile(join(built, blob));
    // A file of its own: the layout can have the same one.
    await rm(join(built, blob));
    await writeFile(join(built, blob), `${whole.toString('utf8').slice(0, -1)} `);
    assert.equal((await faultsOf('full')).length, 1);
    await writeFile(join(built, blob), whole);
  });
});
