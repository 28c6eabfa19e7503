import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { digestOf } from '../../../agent/model/digest.ts';
import type { MadeImage } from '../../support/images.ts';
import { makeStoreFixture, openStoreNode, STORE, type StoreFixture, type StoreNode } from '../../support/store-node.ts';

const MODULES = ['undo/keep-plan.ts', 'undo/keep-image.ts', 'mount/dangling.ts'];
const MAIN = '/var/lib/containers/storage';

describe('images that running containers use', () => {
  let work: string;
  let fixture: StoreFixture;
  /** In the store alone, of three layers. */
  let stored: MadeImage;
  /** In the store alone, by the digest of a list. */
  let ofList: MadeImage;
  /** Pulled, with all its layers in the store. */
  let pulled: MadeImage;
  /** Pulled: base from the store, the rest its own. */
  let onTop: MadeImage;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'keep-'));
    fixture = await makeStoreFixture(work, ({ images }) => [images.release, images.oci, images.otherArchitecture]);
    ({ oci: stored, otherArchitecture: ofList, release: pulled, whiteouts: onTop } = fixture.set.images);
  });
  after(async () => await rm(work, { recursive: true, force: true }));

  const find = async (node: StoreNode) => await node.evaluate(MODULES, 'await findImagesToKeep(host, location)');
  const keep = async (node: StoreNode) =>
    await node.evaluate(
      MODULES,
      'await (async () => { for (const image of await findImagesToKeep(host, location)) await keepImage(host, location, image); return await findImagesToKeep(host, location); })()',
    );
  const recordsOf = async (node: StoreNode, graphroot: string) => {
    const records: { id: string; names: string[]; layer: string; digest: string }[] = JSON.parse(
      await readFile(node.path(join(graphroot, 'overlay-images/images.json')), 'utf8'),
    );
    return records;
  };

  it('are none where nothing runs, or what runs does not stand on the store', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(onTop);
    await node.output('podman', ['create', '--network=host', stored.reference, 'true']);
    assert.deepEqual(await find(node), []);
  });

  it('go on, start again and answer to the same names, ids and digests when the store is gone', async () => {
    await using node = await openStoreNode(fixture);
    await node.pull(pulled);
    await node.pull(onTop);
    const containers = { stored, ofList, pulled, onTop };
    for (const [name, image] of Object.entries(containers)) await node.startContainer(image.reference, name);
    const before = [...(await recordsOf(node, STORE)), ...(await recordsOf(node, MAIN))];
    assert.deepEqual(await keep(node), []);
    const digestsBefore = JSON.parse(
      await node.output('podman', ['image', 'inspect', ...Object.values(containers).map((image) => image.reference)]),
    );
    await node.loseStore();

    const after = await recordsOf(node, MAIN);
    for (const image of Object.values(containers)) {
      const [was, is] = [before, after].map((records) => records.find(({ names }) => names?.includes(image.reference)));
      assert.deepEqual([is?.id, is?.layer, is?.names], [was?.id, was?.layer, [image.reference]]);
      const manifest = await readFile(node.path(join(MAIN, 'overlay-images', is?.id ?? '', 'manifest')));
      assert.ok(
        image.instances.some((instance) => instance.manifest.digest === digestOf(manifest)),
        `${image.reference} has another manifest`,
      );
      assert.equal((await node.podman('image', 'exists', image.reference)).exitCode, 0);
    }
    assert.deepEqual(
      JSON.parse(await node.output('podman', ['image', 'inspect', ...Object.values(containers).map((image) => image.reference)])).map(
        ({ Id, Digest }: { Id: string; Digest: string }) => [Id, Digest],
      ),
      digestsBefore.map(({ Id, Digest }: { Id: string; Digest: string }) => [Id, Digest]),
    );
    assert.deepEqual(await node.evaluate(MODULES, 'await findDangling(location, [STORE])'), { images: [], containers: [], layers: [] });
    const own = { stored: 'oci', ofList: 'other-architecture', pulled: 'release', onTop: 'whiteouts' };
    for (const [name, text] of Object.entries(own)) {
      assert.equal(await node.output('podman', ['exec', name, 'cat', '/etc/prestage-image']), text);
      await node.output('podman', ['restart', '--time', '2', name]);
      assert.equal(await node.output('podman', ['exec', name, 'cat', '/etc/prestage-image']), text);
    }
    assert.equal(await node.output('podman', ['run', '--rm', '--network=host', stored.reference, 'cat', '/etc/prestage-image']), 'oci');
    assert.equal(await node.output('ls', ['/var/lib/prestage-agent']), 'store');
  });

  it('are copied to the end by the next release where one was ended halfway', async () => {
    for (const killedAt of [1, 2, 3]) {
      await using node = await openStoreNode(fixture);
      await node.pull(onTop);
      await node.startContainer(onTop.reference, 'onTop');
      await node.evaluate(
        MODULES,
        `await (async () => {
          let copies = 0;
          const exec = async (file, args, options) => {
            if (file === 'skopeo' && ++copies > ${killedAt}) throw new Error('ended here');
            return await host.exec(file, args, options);
          };
          const [image] = await findImagesToKeep(host, location);
          await keepImage({ ...host, exec }, location, image).catch(() => undefined);
          return 'ended';
        })()`,
      );
      assert.deepEqual(await keep(node), []);
      await node.loseStore();
      const [record] = await recordsOf(node, MAIN);
      assert.deepEqual([record?.names, record?.digest], [[onTop.reference], onTop.digest], `ended after ${killedAt} copies`);
      await node.output('podman', ['restart', '--time', '2', 'onTop']);
      assert.equal(await node.output('podman', ['exec', 'onTop', 'cat', '/etc/prestage-image']), 'whiteouts');
    }
  });
});
