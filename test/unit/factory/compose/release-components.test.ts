import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { layoutBlobPath } from '../../../../agent/extract/oci-layout.ts';
import { planOsImages } from '../../../../agent/factory/compose/os-images.ts';
import { readComponents, withComponents } from '../../../../agent/factory/compose/release-components.ts';
import { type NamedImage, readSourceImage } from '../../../../agent/factory/compose/source-image.ts';
import { type ErrorRecord, errorRecord } from '../../../../agent/model/errors.ts';
import { type LayerEntry, makeLayer, opaque, whiteout } from '../../../support/image-layer.ts';
import { type MadeImage, makeImage, makeIndex, writeOciLayout } from '../../../support/images.ts';

const ART = 'quay.io/openshift-release-dev/ocp-v4.0-art-dev';
const FILE = 'release-manifests/image-references';

/** As `oc adm release new` writes it. */
function references(components: Readonly<Record<string, string>>): LayerEntry {
  const tags = Object.entries(components).map(([name, image]) => ({ name, from: { kind: 'DockerImage', name: image } }));
  return { kind: 'file', path: FILE, content: JSON.stringify({ kind: 'ImageStream', metadata: { name: '4.11.0' }, spec: { tags } }) };
}

interface Place extends AsyncDisposable {
  readonly store: string;
  /** An image of the layout, as a build reads it. */
  read(image: MadeImage): Promise<NamedImage>;
  /** A release image of these layers, lowest first, in a layout of its own. */
  release(...layers: readonly (readonly LayerEntry[])[]): Promise<NamedImage>;
  readonly layout: string;
}

async function openPlace(compression: 'gzip' | 'zstd' = 'gzip'): Promise<Place> {
  const store = await mkdtemp(join(tmpdir(), 'components-'));
  const layout = join(store, 'layout');
  const read: Place['read'] = async (image) => {
    await writeOciLayout(store, [image], layout);
    const { reference, digest } = image;
    return { reference, names: [reference], image: await readSourceImage(layout, digest, 'amd64') };
  };
  return {
    store,
    layout,
    read,
    release: async (...layers) => {
      const made = await Promise.all(layers.map(async (entries) => await makeLayer(store, entries, compression)));
      const name = 'quay.io/openshift-release-dev/ocp-release';
      return await read(
        await makeImage(store, { name, tag: '4.11.0-x86_64', format: 'oci', layers: made, labels: { 'io.openshift.release': '4.11.0' } }),
      );
    },
    [Symbol.asyncDispose]: async () => await rm(store, { recursive: true, force: true }),
  };
}

for (const compression of ['gzip', 'zstd'] as const) {
  test(`operating systems without label or tag are known by the names that the release has for them, layers in ${compression}`, async () => {
    await using place = await openPlace(compression);
    const { store } = place;
    const image = async (word: string): Promise<MadeImage> =>
      await makeImage(store, {
        name: ART,
        format: 'docker',
        layers: [await makeLayer(store, [{ kind: 'file', path: word, content: word }])],
      });
    const [system, extensions, etcd] = [await image('system'), await image('extensions'), await image('etcd')];
    const list = await makeIndex(store, { name: ART, format: 'docker', instances: [system] });
    const release = await place.release(
      [references({ 'rhel-coreos': etcd.reference })],
      [references({ 'machine-os-content': list.reference, 'rhel-coreos-8-extensions': extensions.reference, etcd: etcd.reference })],
      [{ kind: 'file', path: 'etc/other', content: '' }],
    );
    const images = [release, await place.read(list), await place.read(extensions), await place.read(etcd)];
    assert.deepEqual(planOsImages(images, undefined).references, [], 'labels and tags say nothing of them');
    const components = await readComponents(place.layout, [...images, release]);
    assert.deepEqual(
      planOsImages(
        images.map((one) => withComponents(one, components)),
        undefined,
      ).references,
      [list.reference, extensions.reference],
    );
    // Also if it is listed by the digest of the image itself.
    const named = new Map([[system.digest, ['rhel-coreos-9']]]);
    assert.deepEqual(withComponents(await place.read(list), named).components, ['rhel-coreos-9']);
  });
}

test('a release whose list is taken away by a higher layer, or is not a file, names nothing, and what is not a release is not opened', async () => {
  await using place = await openPlace();
  const { store } = place;
  const below = [references({ etcd: `${ART}@sha256:${'a'.repeat(64)}` })];
  for (const above of [
    whiteout(FILE),
    whiteout('release-manifests'),
    opaque('release-manifests'),
    { kind: 'symlink', path: FILE, target: '/etc/passwd' } as const,
  ]) {
    const isLink = above.kind === 'symlink';
    const release = await place.release(...(isLink ? [] : [below]), [above]);
    assert.deepEqual(await readComponents(place.layout, [release]), new Map(), JSON.stringify(above));
  }
  const plain = await place.read(await makeImage(store, { name: ART, format: 'oci', layers: [await makeLayer(store, below)] }));
  assert.deepEqual(await readComponents(place.layout, [plain]), new Map());
  const image = { name: 'good', from: { kind: 'DockerImage', name: `${ART}@${plain.image.manifest}` } };
  const tags = [{ name: 'odd', from: { kind: 'ImageStreamTag', name: '4.11:odd' } }, image];
  const content = JSON.stringify({ kind: 'ImageStream', spec: { tags } });
  const odd = await place.release([{ kind: 'file', path: FILE, content }]);
  assert.deepEqual(await readComponents(place.layout, [odd]), new Map([[plain.image.manifest, ['good']]]));
  const tagged = await place.release([references({ etcd: `${ART}:by-tag` })]);
  assert.deepEqual(await readComponents(place.layout, [tagged]), new Map());
});

test('a list that cannot be read, one that is too large, and a layer with other bytes are refused', async () => {
  await using place = await openPlace();
  const refused = async (release: NamedImage): Promise<ErrorRecord> =>
    await readComponents(place.layout, [release]).then(() => assert.fail('nothing was thrown'), errorRecord);
  const broken = await refused(await place.release([{ kind: 'file', path: FILE, content: '{' }]));
  assert.deepEqual([broken.code, broken.remedy], ['ERR_RELEASE', 'Pull the release image again, or take it off the lists']);
  assert.match(
    broken.message,
    /^release-manifests\/image-references of quay\.io\/openshift-release-dev\/ocp-release:4\.11\.0-x86_64 is not a valid list of release components/,
  );
  const large = await refused(await place.release([{ kind: 'file', path: FILE, content: ' '.repeat(16 * 1024 * 1024 + 1) }]));
  assert.deepEqual(
    [large.code, /has 16777217 bytes, more than the limit of 16777216$/.test(large.message)],
    ['ERR_SOURCE', true],
    large.message,
  );
  const release = await place.release([references({})]);
  const [layer] = release.image.layers;
  assert.ok(layer !== undefined);
  await appendFile(layoutBlobPath(place.layout, layer.digest), 'x');
  assert.match((await refused(release)).code, /^ERR_(?:LAYOUT_BLOB|SOURCE)$/);
});
