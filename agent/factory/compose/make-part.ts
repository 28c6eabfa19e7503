import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { output } from '../../host/exec.ts';
import { placeFile } from '../../host/place.ts';
import { removeTree } from '../../host/remove-tree.ts';
import { hexOf } from '../../model/digest.ts';
import { withoutImages } from '../../model/image-list.ts';
import { registryTree } from '../../tree/registry-tree.ts';
import { type TreeFile, writeTree } from '../../tree/tree-files.ts';
import { writeArchives } from './archive-writer.ts';
import { type Made, type MakeContext, servedTree } from './make-context.ts';
import { makeStore } from './make-store.ts';
import { ociTree } from './oci-tree.ts';
import type { Part } from './plan.ts';
import { findRegistryInLayout } from './registry-image.ts';
import { attachedTreeImages } from './source-attached.ts';
import type { NamedImage } from './source-image.ts';
import { signatureBlobs } from './source-signatures.ts';
import type { UnpackedStorage } from './store-normalise.ts';

/**
 * Makes one part of a bundle. First removes what an interrupted build has left of it.
 * @param storage for a store: the storage that has its images unpacked
 */
export async function makePart(part: Part, storage: UnpackedStorage | undefined, context: MakeContext): Promise<Made> {
  const { act } = context;
  await act('remove-old-part', async () => {
    for (const path of part.paths) await removeTree(join(context.bundle, path));
  });
  const to = join(context.bundle, part.paths[0] ?? '');
  switch (part.kind) {
    case 'oci':
      await act('write-tree', async () => await writeTree(ociTree(part.images), { layout: context.layout, to }));
      return {};
    case 'registry':
      await act('write-tree', async () => await writeTree(wholeTree(part.images), { layout: context.layout, to }));
      return await namedRegistry(part, context);
    case 'signatures':
      await act('write-tree', async () => await writeTree(signatureFiles(part), { layout: context.layout, to }));
      return {};
    case 'archives':
      await act('place-archives', async () => await makeArchives(part, to, context));
      return {};
    case 'agent':
      await act('copy-agent', async () => await makeAgent(to, context));
      return {};
    case 'store':
      return storage === undefined ? {} : await makeStore(part, storage, context);
  }
}

/** The files of signatures in a bundle, named by their digests. */
function signatureFiles({ images, blobs = [] }: Part): readonly TreeFile[] {
  return [...new Set([...signatureBlobs(images), ...blobs])].map((digest) => ({ path: `sha256/${hexOf(digest)}`, blob: digest }));
}

/** The tree of images with their signatures and attachments. */
function wholeTree(images: readonly NamedImage[]): readonly TreeFile[] {
  return [...servedTree(images, 'all'), ...registryTree(attachedTreeImages(images), 'all')];
}

/** Names the image in a tree that can serve it. If the bundle also has a store, the store names it, since its files are unpacked. */
async function namedRegistry(part: Part, { host, facts, layout, signal }: MakeContext): Promise<Made> {
  const found = facts.registryImage ?? (await findRegistryInLayout(layout, part.images, signal));
  if (found !== undefined) return { registryImage: found.names[0] ?? found.reference };
  if (!facts.payloads.includes('store')) {
    host.log(
      'notice',
      `${part.id}: no image was found that contains a registry, so the nodes need one of their own; name one with --registry-image`,
    );
  }
  return {};
}

async function makeArchives(part: Part, to: string, context: MakeContext): Promise<void> {
  const { archives, listFiles, leftOut = [] } = context.facts;
  if (archives === undefined) await writeArchives(context.host, part.images, { ...context, to, work: join(context.work, 'archives') });
  else for (const { path, name } of archives) await placeFile(path, join(to, `${name}.tgz`));
  const gone = new Set(leftOut);
  for (const [name, { from }] of listFiles) {
    // A node looks for the archive of every line.
    if (gone.size === 0) await placeFile(from, join(to, name));
    else await writeFile(join(to, name), withoutImages(await readFile(from, 'utf8'), gone));
  }
}

/** Always a copy, sharing blocks if possible: its mode has to be set. */
async function makeAgent(to: string, context: MakeContext): Promise<void> {
  const agent = context.facts.agents.find(({ path }) => join(context.bundle, path) === to);
  if (agent === undefined) return;
  await mkdir(join(to, '..'), { recursive: true });
  await output(context.host.exec, 'cp', ['--reflink=auto', '--dereference', '--no-preserve=all', agent.from, to], {
    signal: context.signal,
  });
  await chmod(to, 0o755);
}
