import { join, relative } from 'node:path';
import type { StoreBundle } from '../bundle/stage-bundle.ts';
import { hostPath } from '../host/host.ts';
import type { RunContext } from '../load/context.ts';
import type { BundleImage } from '../model/bundle.ts';
import type { Digest } from '../model/digest.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { DATA_PATH, DISK_BUNDLE_PATH } from '../model/places.ts';
import { TREE_ROOT } from '../model/registry-path.ts';
import type { ImageState, RunState } from '../model/run-state.ts';
import type { PlacementChoice } from '../model/store.ts';
import { bindData, unbindData } from '../mount/bind-data.ts';
import { type OsTree, osTreeFault } from '../tree/os-tree.ts';
import { bootedImage } from './booted-image.ts';
import { registryAddress } from './registry-address.ts';

/** The operating systems of a bundle, and what a run does with them. */
export interface Systems {
  readonly images: readonly BundleImage[];
  /** The tree that is served beside the mirror; undefined if none is. */
  readonly tree?: OsTree & {
    /** Its top, as the registry sees it. */
    readonly data: string;
  };
  /** Why they are not served. */
  readonly because?: { readonly state: 'absent' | 'stored' | 'booted' | 'failed'; readonly reason: string; readonly error?: ErrorRecord };
}

/**
 * Decides whether the operating systems of a bundle are served beside its mirror. With its store in memory, a node serves them only until it has booted
 * its own: their layers are read from the partition, which is released then. In discovery they are not served, because no node pivots there and the
 * disk must be free.
 */
export async function planSystems(
  {
    directory,
    images,
    store,
  }: Pick<StoreBundle, 'directory' | 'images'> & { readonly store: Pick<StoreBundle['store'], 'unmirrored' | 'osTree'> },
  placement: PlacementChoice,
  { host, stage }: Pick<RunContext, 'host' | 'stage'>,
  kernelArguments?: string,
): Promise<Systems> {
  const found = images.filter(({ reference }) => store.unmirrored.includes(reference));
  const not = (state: NonNullable<Systems['because']>['state'], reason: string, error?: ErrorRecord): Systems => ({
    images: found,
    because: { state, reason, ...(error && { error }) },
  });
  if (found.length === 0) return not('absent', 'the bundle has none');
  const { osTree } = store;
  if (osTree === undefined || stage === 'discovery') return not('stored', 'pulls go to the source');
  if (placement === 'ram' && runsOneOf(found, await bootedImage(host, kernelArguments)))
    return not('booted', 'the node runs it, and the partition is free');
  const fault = await osTreeFault(osTree);
  if (fault !== undefined) return not('failed', fault.message, errorRecord(fault));
  return { images: found, tree: { ...osTree, data: join(hostPath(host, DATA_PATH), relative(directory, osTree.path)) } };
}

function runsOneOf(images: readonly BundleImage[], booted: Digest | undefined): boolean {
  return booted !== undefined && images.some(({ manifestDigest, instanceDigest }) => [manifestDigest, instanceDigest].includes(booted));
}

/** Whether the registry of the store answers for an image. */
export function isAnswered(systems: Systems): (image: Pick<BundleImage, 'reference'>) => boolean {
  const unanswered = new Set(systems.tree === undefined ? systems.images.map(({ reference }) => reference) : []);
  return ({ reference }) => !unanswered.has(reference);
}

/**
 * Binds the directory that layers are served from: the bundle, or its kept copy on the disk.
 * @returns the directory that the registry has to see
 * @throws PrestageError ERR_STORE_MOUNT, ERR_STORE_BUSY
 */
export async function bindSystems(
  { tree }: Systems,
  { directory, isOnDisk }: { readonly directory: string; readonly isOnDisk: boolean },
  { host, act }: RunContext,
): Promise<string | undefined> {
  if (tree === undefined) return undefined;
  await bindData(host, isOnDisk ? hostPath(host, DISK_BUNDLE_PATH) : directory, act);
  return join(tree.data, TREE_ROOT, 'blobs');
}

/** Releases the partition if only the operating systems were read from it. */
export async function unbindSystems(placement: PlacementChoice, { host, act }: RunContext): Promise<void> {
  if (placement !== 'partition') await unbindData(host, act);
}

/** The state of an operating system that is not in the store. A node that already runs it needs none. Pure. */
export function unstoredState({ because }: Systems, image: BundleImage, isServing: boolean, context: RunContext): readonly ImageState[] {
  const { reference, names, manifestDigest } = image;
  const state = { reference, names: [...names], digests: [manifestDigest] };
  if (because?.state === 'booted') return [];
  if (because === undefined && isServing) return [{ ...state, state: 'served', reason: `by the registry at ${registryAddress(context)}` }];
  const error = because?.error ?? errorRecord(notServed(reference));
  return [{ ...state, state: 'failed', reason: error.message, error }];
}

/** What `status` says of them; undefined in discovery. */
export function systemsState({ images, tree, because }: Systems, isServing: boolean, context: RunContext): RunState['osImage'] {
  if (context.stage === 'discovery') return undefined;
  const references = images.map(({ reference }) => reference);
  if (because !== undefined) return { references, state: because.state, reason: because.reason };
  if (!isServing) return { references, state: 'failed', reason: 'no registry of this node serves it' };
  return { references, state: 'served', reason: `complete at ${registryAddress(context)}, from ${tree?.path ?? ''}` };
}

function notServed(reference: string): PrestageError {
  return new PrestageError(
    'ERR_STORE_IMAGE',
    `${reference} is not in the store image, and no registry of this node serves it`,
    'Set registry-image to an image that contains distribution, or build the bundle with --os-image both',
  );
}
