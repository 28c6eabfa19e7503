import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { MadeImage } from '../../support/images.ts';
import { makeStoreFixture, openStoreNode, STORE, type StoreFixture, type StoreNode } from '../../support/store-node.ts';

const MODULES = ['mount/dangling.ts', 'mount/heal-dangling.ts'];
const MAIN = '/var/lib/containers/storage';

describe('what was pulled on top of a store image that is lost', () => {
  let work: string;
  let fixture: StoreFixture;
  /** All its layers are in the store. */
  let release: MadeImage;
  /** Base from the store, the rest its own. */
  let onTop: MadeImage;
  let alsoOnTop: MadeImage;
  /** In the store alone. */
  let stored: MadeImage;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'dangling-'));
    fixture = await makeStoreFixture(work, ({ images }) => [images.release, images.oci]);
    ({ release, whiteouts: onTop, links: alsoOnTop, oci: stored } = fixture.set.images);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const heal = async (node: StoreNode) => await node.evaluate(MODULES, 'await healDangling(host, { location, stores: [STORE], act })');
  const find = async (node: StoreNode, stores = '[STORE]') => await node.evaluate(MODULES, `await findDangling(location, ${stores})`);
  const broken = async (node: StoreNode) => {
    const { exitCode, stderr } = await node.podman('images');
    return exitCode === 0 ? 'podman images works' : (/layer not known|locating item named "manifest"/.exec(stderr)?.[0] ?? stderr);
  };
  const records = async (node: StoreNode, path: string): Promise<readonly { id: string; names?: string[]; parent?: string }[]> =>
    JSON.parse(await readFile(node.path(join(MAIN, path)), 'utf8'));
  /** An image of the main store alone. */
  const importSound = async (node: StoreNode) => {
    await node.output('sh', [
      '-c',
      'mkdir -p /run/sound && echo sound > /run/sound/file && tar c -C /run/sound . | podman import - localhost/sound:1',
    ]);
  };

  it('is dangling only once the store is gone, and not where another store has the layers', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(release);
    await node.pull(onTop);
    const nothing = { images: [], containers: [], layers: [] };
    assert.deepEqual(await find(node), nothing);
    await node.output('mkdir', ['/run/other']);
    await node.output('mount', ['-t', 'squashfs', '-o', 'loop,ro', fixture.image, '/run/other']);
    await node.loseStore();
    assert.deepEqual(await find(node, '[STORE, "/run/other"]'), nothing);
    assert.deepEqual(await node.evaluate(MODULES, '(await findDangling(location, [STORE])).images.map(({ names }) => names)'), [
      [release.reference],
      [onTop.reference],
    ]);
  });

  it('makes podman fail with `layer not known`, and is removed, while other images stay', async () => {
    await using node = await openStoreNode(fixture);
    await importSound(node);
    for (const image of [release, onTop, alsoOnTop]) await node.pull(image);
    await node.loseStore();
    assert.equal(await broken(node), 'layer not known');
    const removed = await heal(node);
    assert.ok(Array.isArray(removed));
    assert.deepEqual(
      removed.map((text) => String(text).replace(/[0-9a-f]{64}\)$/, 'LAYER)')),
      [release, onTop, alsoOnTop].map(({ reference }) => `image ${reference} (no store has its layer LAYER)`),
    );
    assert.deepEqual(await node.images(), ['localhost/sound:1']);
    assert.equal((await records(node, 'overlay-layers/layers.json')).length, 1);
    assert.deepEqual(await node.output('ls', ['/run/prestage-agent']), '');
  });

  it('does not start podman where nothing dangles', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(onTop);
    const refusing = '{ ...host, exec: () => { throw new Error("started a program") } }';
    assert.deepEqual(await node.evaluate(MODULES, `await healDangling(${refusing}, { location, stores: [STORE], act })`), []);
  });

  it('comes back when the store does: what was pulled again stands on it', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(release);
    await node.loseStore();
    await heal(node);
    await node.bringStore();
    await node.pull(release);
    assert.deepEqual(await node.images(), [release.reference, release.reference, stored.reference].toSorted());
    assert.equal(
      await node.output('podman', ['run', '--rm', '--network=host', release.reference, 'cat', '/etc/prestage-image']),
      'release',
    );
  });

  it('goes where a tag was given to an image of the store, whose manifest only the store had', async () => {
    await using node = await openStoreNode(fixture);
    await node.output('podman', ['tag', stored.reference, 'localhost/mine:1']);
    await node.loseStore();
    assert.notEqual(await broken(node), 'podman images works');
    const removed = await heal(node);
    assert.match(String(removed), /^image localhost\/mine:1 \(no store has its layer [0-9a-f]{64}\)$/);
    assert.deepEqual(await node.images(), []);
  });

  it('goes with its containers, those that podman made and those of another engine', async () => {
    await using node = await openStoreNode(fixture);
    await importSound(node);
    await node.pull(onTop);
    const create = async (name: string, image: string) =>
      await node.output('podman', ['create', '--name', name, '--network=host', image, 'true']);
    await create('foreign-on-store', stored.reference);
    await create('foreign-on-main', onTop.reference);
    await node.output('rm', [`${MAIN}/libpod/bolt_state.db`]);
    await create('on-store', stored.reference);
    await create('on-main', onTop.reference);
    await create('sound', 'localhost/sound:1');
    await node.startContainer(stored.reference, 'running');
    await node.loseStore();
    assert.notEqual((await node.podman('system', 'df')).exitCode, 0);
    const removed = await heal(node);
    assert.ok(Array.isArray(removed));
    assert.deepEqual(removed.slice(0, 5).map(String).toSorted(), [
      'container foreign-on-main',
      'container foreign-on-store',
      'container on-main',
      'container on-store',
      'container running, which was running',
    ]);
    assert.deepEqual(
      (await node.output('podman', ['ps', '--all', '--external', '--format', '{{.Names}}'])).split('\n').filter((name) => name !== ''),
      ['sound'],
    );
    assert.deepEqual([(await node.podman('system', 'df')).exitCode, await node.images()], [0, ['localhost/sound:1']]);
    assert.deepEqual(
      (await records(node, 'overlay-containers/containers.json')).flatMap(({ names }) => names),
      ['sound'],
    );
  });

  it('leaves no layer behind on which a later pull would build an image that does not start', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(onTop);
    const images = await records(node, 'overlay-images/images.json');
    await writeFile(node.path(join(MAIN, 'overlay-images/images.json')), '[]');
    await node.output('rm', ['-r', join(MAIN, 'overlay-images', images[0]?.id ?? 'none')]);
    await node.loseStore();
    const [layer] = await records(node, 'overlay-layers/layers.json');
    assert.deepEqual(await heal(node), [`layer ${layer?.id}`]);
    assert.deepEqual([await records(node, 'overlay-layers/layers.json'), await records(node, 'overlay-images/images.json')], [[], []]);
    await node.pull(onTop);
    assert.equal(
      await node.output('podman', ['run', '--rm', '--network=host', onTop.reference, 'cat', '/etc/prestage-image']),
      'whiteouts',
    );
  });

  it('heals a storage that is not the default one of the engines as well', async () => {
    await using node = await openStoreNode(fixture);
    const [graphroot, runroot] = ['/var/lib/containers/other', '/run/other'];
    const destination = `containers-storage:[overlay@${graphroot}+${runroot}:overlay.imagestore=${STORE}]${onTop.reference}`;
    await node.output('skopeo', ['copy', '--quiet', '--preserve-digests', fixture.source(onTop), destination]);
    await node.loseStore();
    const roots = ['--root', graphroot, '--runroot', runroot, '--storage-driver', 'overlay'];
    assert.notEqual((await node.podman(...roots, 'images')).exitCode, 0);
    const location = JSON.stringify({ graphroot, runroot });
    await node.evaluate(MODULES, `await healDangling(host, { location: ${location}, stores: [STORE], act })`);
    assert.deepEqual(await node.podman(...roots, 'images', '--quiet'), { exitCode: 0, stdout: '', stderr: '' });
  });
});
