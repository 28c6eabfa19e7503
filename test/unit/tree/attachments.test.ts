import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { attachedTag, referrersTag } from '../../../agent/model/attached.ts';
import { treeBlobPath } from '../../../agent/model/registry-path.ts';
import { signatureTag } from '../../../agent/signatures/attachment.ts';
import { registryTree } from '../../../agent/tree/registry-tree.ts';
import { besideInTree } from '../../../agent/tree/tree-attachments.ts';
import { hideImages } from '../../../agent/tree/tree-check.ts';
import { writeTree } from '../../../agent/tree/tree-files.ts';
import { holdsSignatures, treeImages } from '../../../agent/tree/tree-images.ts';
import { listOfReferrers, makeAttached, makeTagged } from '../../support/attaching.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { type MadeImage, makeImage } from '../../support/images.ts';

const NAME = 'quay.io/example/tool';

describe('a tree with attachments beside its images', () => {
  let work: string;
  let store: string;
  let images: readonly MadeImage[];
  let made: Record<'sig' | 'att' | 'sbom' | 'referrer' | 'list', MadeImage>;
  before(async () => {
    work = await mkdtemp(join(tmpdir(), 'mirror-attachments-'));
    store = join(work, 'store');
    const layer = await makeLayer(store, [{ kind: 'directory', path: 'etc' }]);
    const [one, two] = [
      await makeImage(store, { name: NAME, tag: 'v1', format: 'oci', layers: [layer] }),
      await makeImage(store, { name: NAME, tag: 'v2', format: 'docker', layers: [layer] }),
    ];
    images = [one, two];
    const tagged = async (tag: string) => await makeAttached(store, { repository: NAME, tag, content: tag });
    const referrer = await makeAttached(store, { repository: NAME, subject: one.digest, artifactType: 'a/b', content: 'referrer' });
    made = {
      sig: await tagged(signatureTag(one.digest)),
      att: await tagged(attachedTag(one.digest, 'att')),
      sbom: await tagged(attachedTag(one.digest, 'sbom')),
      referrer,
      // A list can say what it likes: the second image names no subject, so it is an image.
      list: await makeTagged(store, `${NAME}:${referrersTag(one.digest)}`, listOfReferrers([referrer, two])),
    };
  });
  after(async () => await rm(work, { recursive: true }));

  const treeOf = async (name: string): Promise<string> => {
    const to = join(work, name);
    const entryOf = (image: MadeImage, names = [image.reference]) => {
      const [instance] = image.instances;
      const [manifest, config] = [instance?.manifest.digest ?? image.digest, instance?.config.digest ?? image.digest];
      return { names, image: { top: { digest: image.digest }, manifest, config, layers: instance?.layers ?? [] } };
    };
    const [one, two] = images;
    assert.ok(one && two);
    const itself = entryOf(two, [two.reference, `${NAME}:${referrersTag(two.digest)}`]);
    const all = [entryOf(one), itself, ...Object.values(made).map((image) => entryOf(image))];
    await writeTree(registryTree(all, 'all'), { layout: store, to });
    return to;
  };
  const served = async (to: string) => (await treeImages(to)).map(({ digest, tags }) => [digest, tags]);
  const both = (): readonly unknown[] => {
    const [one, two] = images;
    return [
      [one?.digest, ['v1']],
      [two?.digest, [referrersTag(two?.digest ?? made.sig.digest), 'v2']],
    ].toSorted(([a], [b]) => (String(a) < String(b) ? -1 : 1));
  };

  it('serves the images alone as images, one that is tagged with its own digest too', async () => {
    assert.deepEqual(await served(await treeOf('whole')), both());
  });

  it('takes a referrer for none whose manifest is damaged, and a list that is damaged for an image', async () => {
    const to = await treeOf('damaged');
    // Files of their own: the store can have the same ones.
    const spoil = async ({ digest }: MadeImage): Promise<void> => {
      await rm(join(to, treeBlobPath(digest)));
      await writeFile(join(to, treeBlobPath(digest)), '{}');
    };
    await spoil(made.referrer);
    assert.deepEqual(await served(to), both());
    await spoil(made.list);
    assert.deepEqual(
      new Set((await served(to)).map(([digest]) => digest)),
      new Set([...images, made.list, made.referrer].map(({ digest }) => digest)),
    );
  });

  it('loses with an image that is hidden all that lies beside it, and nothing of another one', async () => {
    const to = await treeOf('hidden');
    const [one, two] = images;
    assert.ok(one && two);
    const beside = await besideInTree(to, NAME, one.digest);
    assert.deepEqual(
      beside.tags,
      [made.sig, made.att, made.sbom, made.list].map(({ reference }) => reference.slice(NAME.length + 1)),
    );
    assert.deepEqual(new Set(beside.manifests), new Set(Object.values(made).map(({ digest }) => digest)));
    assert.equal(await holdsSignatures(to), true);
    await hideImages(
      to,
      (await treeImages(to)).filter(({ digest }) => digest === one.digest),
    );
    assert.deepEqual(
      await served(to),
      both().filter((entry) => JSON.stringify(entry).includes('v2')),
    );
    assert.deepEqual(await besideInTree(to, NAME, one.digest), { tags: [], manifests: [] });
    assert.equal(await holdsSignatures(to), false);
  });
});
