import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { registryTree } from '../../extract/registry-tree.ts';
import { type TreeFile, writeTree } from '../../extract/tree-files.ts';
import { output } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';
import { placeFile } from '../../host/place.ts';
import { removeTree } from '../../host/remove-tree.ts';
import type { Step, StepName } from '../../host/steps.ts';
import { formatDuration } from '../../model/bytes.ts';
import type { Digest } from '../../model/digest.ts';
import { hexOf } from '../../model/digest.ts';
import { STAGES } from '../../model/stage.ts';
import { writeArchives } from './archive-writer.ts';
import { ociTree } from './oci-tree.ts';
import type { BuildFolders } from './options.ts';
import { isOperatingSystem } from './os-images.ts';
import { type BuildFacts, type Part, storePartId } from './plan.ts';
import { findRegistryImage, findRegistryInLayout } from './registry-image.ts';
import { attachedTreeImages } from './source-attached.ts';
import type { NamedImage } from './source-image.ts';
import { signatureBlobs, signatureTreeImages } from './source-signatures.ts';
import { composeStore } from './store-copy.ts';
import { normaliseStore } from './store-normalise.ts';
import { formatVerity, packSquashfs } from './store-pack.ts';
import { proveStore, reclaimProof } from './store-proof.ts';
import { sizesOfStore } from './unpacked-sizes.ts';

/** Folder of a store's proof in its work directory. */
const PROOF = 'proof';

export interface MakeContext extends BuildFolders {
  readonly host: Host;
  readonly facts: BuildFacts;
  readonly jobs: number;
  readonly step: Step;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

/** What came of a part besides its files. */
export interface Made {
  readonly rootHash?: string;
  readonly registryImage?: string;
  /** Unpacked sizes that became known, by digest. */
  readonly unpackedBytes?: ReadonlyMap<Digest, number>;
}

/** Gives back what an ended build has left mounted in its work directory. */
export async function reclaimWork(host: Host, work: string): Promise<void> {
  for (const stage of STAGES) await reclaimProof(host, join(work, storePartId(stage), PROOF));
}

/** Makes one part of a bundle; what an ended build has left of it goes first. */
export async function makePart(part: Part, context: MakeContext): Promise<Made> {
  const { step } = context;
  await step('remove-old-part', async () => {
    for (const path of part.paths) await removeTree(join(context.bundle, path));
  });
  const to = join(context.bundle, part.paths[0] ?? '');
  switch (part.kind) {
    case 'oci':
      await step('write-tree', async () => await writeTree(ociTree(part.images), { layout: context.layout, to }));
      return {};
    case 'registry':
      await step('write-tree', async () => await writeTree(wholeTree(part.images), { layout: context.layout, to }));
      return await namedRegistry(part, context);
    case 'signatures':
      await step('write-tree', async () => await writeTree(signatureFiles(part), { layout: context.layout, to }));
      return {};
    case 'archives':
      await step('place-archives', async () => await makeArchives(part, to, context));
      return {};
    case 'agent':
      await step('copy-agent', async () => await makeAgent(to, context));
      return {};
    case 'store':
      return await makeStore(part, context);
  }
}

/** Where signatures lie in a bundle, by their digests. */
function signatureFiles({ images, blobs = [] }: Part): readonly TreeFile[] {
  return [...new Set([...signatureBlobs(images), ...blobs])].map((digest) => ({ path: `sha256/${hexOf(digest)}`, blob: digest }));
}

/** Images with their signatures, which are whole in every tree. */
function servedTree(images: readonly NamedImage[], content: 'all' | 'metadata'): readonly TreeFile[] {
  return [...registryTree(images, content), ...registryTree(signatureTreeImages(images), 'all')];
}

/** Images with all that lies beside them. */
function wholeTree(images: readonly NamedImage[]): readonly TreeFile[] {
  return [...servedTree(images, 'all'), ...registryTree(attachedTreeImages(images), 'all')];
}

/** A tree is served by an image in it; a store beside it, where there is one, has found it by looking at files. */
async function namedRegistry(part: Part, { host, facts, layout, signal }: MakeContext): Promise<Made> {
  const found = facts.registryImage ?? (await findRegistryInLayout(layout, part.images, signal));
  if (found !== undefined) return { registryImage: found.names[0] ?? found.reference };
  if (!facts.payloads.includes('store')) {
    host.log('notice', `${part.id}: no image was found that carries a registry, so nodes must be told one; give one with --registry-image`);
  }
  return {};
}

async function makeArchives(part: Part, to: string, context: MakeContext): Promise<void> {
  const { archives, listFiles } = context.facts;
  if (archives === undefined) await writeArchives(context.host, part.images, { ...context, to, work: join(context.work, 'archives') });
  else for (const { path, name } of archives) await placeFile(path, join(to, `${name}.tgz`));
  for (const [name, { from }] of listFiles) await placeFile(from, join(to, name));
}

/** Always a copy where it cannot share blocks: its mode has to be set. */
async function makeAgent(to: string, context: MakeContext): Promise<void> {
  const agent = context.facts.agents.find(({ path }) => join(context.bundle, path) === to);
  if (agent === undefined) return;
  await mkdir(join(to, '..'), { recursive: true });
  await output(context.host.exec, 'cp', ['--reflink=auto', '--dereference', '--no-preserve=all', agent.from, to], {
    signal: context.signal,
  });
  await chmod(to, 0o755);
}

async function makeStore(part: Part, context: MakeContext): Promise<Made> {
  const { host, facts, jobs, step, signal, say } = context;
  const work = join(context.work, part.id);
  const [image = '', hashTree = '', mirror = '', osTree] = part.paths.map((path) => join(context.bundle, path));
  await mkdir(join(image, '..'), { recursive: true });
  const timed = async <T>(name: StepName, what: string, act: () => Promise<T>): Promise<T> => {
    const startMs = host.clock.monotonicMs();
    const result = await step(name, act);
    say(`${part.id}: ${what}, ${formatDuration(host.clock.monotonicMs() - startMs)}`);
    return result;
  };
  const { architecture, stampSeconds } = facts;
  const composing = { layout: context.layout, images: part.images, architecture, work: join(work, 'store'), jobs, signal };
  const location = await timed('compose-store', `${part.images.length} images unpacked`, () =>
    composeStore(host, { ...composing, onCopied: (done, of) => say(`${part.id}: ${done}/${of} images unpacked`) }),
  );
  const { graphroot } = location;
  const undated = new Set(part.images.filter((one) => one.image.created === undefined).map((one) => hexOf(one.image.config)));
  const unpackedBytes = await sizesOfStore(graphroot);
  const found = facts.registryImage ?? (await findRegistryImage(graphroot, part.images));
  await timed('normalise-store', 'made the same for the same images', () => normaliseStore(graphroot, { stampSeconds, undated }));
  await timed('pack-store', 'packed as squashfs', () => packSquashfs(host, { graphroot, image, stampSeconds, jobs, signal }));
  await step('remove-store-work', async () => await removeTree(join(work, 'store')));
  const rootHash = await timed('make-hash-tree', 'hash tree made', () => formatVerity(host, { image, hashTree, seed: part.key, signal }));
  const proof = await timed('prove-store', 'proven by podman', () =>
    proveStore(host, { image, images: part.images, architecture, work: join(work, PROOF), signal }),
  );
  await step('remove-store-work', async () => await removeTree(work));
  if (proof.ranIn !== undefined) say(`${part.id}: a command ran in ${proof.ranIn}`);
  if (proof.notRun !== undefined) host.log('warning', `${part.id}: no command was run in any image: ${proof.notRun}`);
  const mirrored = part.images.filter((one) => !isOperatingSystem(one));
  await step('write-tree', async () => await writeTree(servedTree(mirrored, 'metadata'), { layout: context.layout, to: mirror }));
  if (osTree !== undefined) {
    await step('write-tree', async () => await writeTree(servedTree(part.served ?? [], 'all'), { layout: context.layout, to: osTree }));
  }
  if (found === undefined) {
    host.log('warning', `${part.id}: no image carries a registry, so the mirror needs one of the node; give one with --registry-image`);
  }
  return { rootHash, unpackedBytes, ...(found && { registryImage: found.names[0] ?? found.reference }) };
}
