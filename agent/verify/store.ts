import { join } from 'node:path';
import type { BundleFault } from '../bundle/verify-files.ts';
import { type ExecResult, quote } from '../host/exec.ts';
import { mountReadOnly } from '../host/mounts.ts';
import { privateTarget } from '../host/private-mount.ts';
import { BUNDLE_FILE, type BundleImage, type BundlePayload, compressionText } from '../model/bundle.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { squashfsObstacle } from '../model/release.ts';
import { squashfsKind } from '../mount/mount-refusal.ts';
import { inspectStorage, type StorageContents } from '../storage/records.ts';
import { type Checked, faultOf, joinChecked, NOTHING_WRONG, type VerifyContext } from './context.ts';
import { verifyRegistry } from './registry.ts';

type StorePayload = Extract<BundlePayload, { kind: 'store' }>;

interface StoreWork {
  /** Top directory of the bundle. */
  readonly directory: string;
  readonly payload: StorePayload;
  /** Images of its stage. */
  readonly images: readonly BundleImage[];
  /** Release of the bundle; empty if unknown. */
  readonly release: string;
  /** Paths of files with faults; settles when all files have been checked. */
  readonly broken: Promise<ReadonlySet<string>>;
}

/**
 * Checks a store image: its metadata tree and the tree of operating systems. In mode `full` also checks the dm-verity hash tree against the image
 * and, as root, that the storage in it has every name of every image. Its files are hashed elsewhere.
 */
export async function verifyStore({ directory, payload, images, release, broken }: StoreWork, context: VerifyContext): Promise<Checked> {
  const mirrored = images.filter(({ reference }) => payload.unmirrored?.includes(reference) !== true);
  const mirror = joinChecked([
    await verifyRegistry({ directory, path: payload.mirror }, mirrored, 'metadata', context),
    await verifyOsTree(directory, payload, images, context),
  ]);
  const packing = await verifyPacking(directory, payload, release);
  if (context.mode === 'quick') return joinChecked([mirror, packing]);
  const verity = await verifyHashTree(directory, payload, context);
  const stored = images.filter(({ reference }) => payload.unstored?.includes(reference) !== true);
  // Never let the squashfs driver of the kernel read an image that is known to be damaged.
  const isDamaged = verity.faults.length > 0 || (await broken).has(payload.image);
  const contents = isDamaged ? NOTHING_WRONG : await verifyContents(directory, payload, stored, context);
  return joinChecked([mirror, packing, verity, contents]);
}

/** Compares the compression in the header of the image with the manifest, and notes if nodes of the release probably cannot mount it. */
async function verifyPacking(directory: string, { image, compression }: StorePayload, release: string): Promise<Checked> {
  const kind = await squashfsKind(join(directory, image));
  const packed = kind?.replace(/^.* with /, '');
  if (packed === undefined) return NOTHING_WRONG;
  const obstacle = squashfsObstacle(release, packed);
  const notices = obstacle === undefined ? [] : [`${image} is ${obstacle}: build it with --store-compression gzip`];
  if (compression === undefined || compression.algorithm === packed) return { faults: [], notices };
  const error = new PrestageError(
    'ERR_BUNDLE_FILE',
    `${image} is a ${kind}, but ${BUNDLE_FILE} says ${compressionText(compression)}`,
    'Build the bundle again at the factory',
  );
  return { faults: [{ path: image, ...errorRecord(error) }], notices };
}

/** Checks the separate tree of operating systems, which has all blobs. */
async function verifyOsTree(
  directory: string,
  { osTree, unmirrored = [] }: StorePayload,
  images: readonly BundleImage[],
  context: VerifyContext,
): Promise<Checked> {
  if (osTree === undefined) return NOTHING_WRONG;
  const served = images.filter(({ reference }) => unmirrored.includes(reference));
  return await verifyRegistry({ directory, path: osTree }, served, 'all', context);
}

/** Source: veritysetup(8), verify. */
async function verifyHashTree(directory: string, payload: StorePayload, { host, signal }: VerifyContext): Promise<Checked> {
  const image = join(directory, payload.image);
  const tree = join(directory, payload.verity.hashTree);
  const result = await host.exec('veritysetup', ['verify', image, tree, payload.verity.rootHash], { signal }).catch(toolMissing);
  signal.throwIfAborted();
  if (result === undefined)
    return {
      faults: [],
      notices: [`veritysetup is not installed: only the sha256 of the hash tree ${tree} was compared, the tree was not recomputed`],
    };
  if (result.exitCode === 0) return NOTHING_WRONG;
  const error = new PrestageError(
    'ERR_BUNDLE_FILE',
    `${tree} is not the hash tree of ${image} with the root hash ${payload.verity.rootHash}: ${quote(result.stderr)}`,
    'Build the bundle again at the factory',
  );
  return { faults: [{ path: payload.verity.hashTree, ...errorRecord(error) }], notices: [] };
}

async function verifyContents(
  directory: string,
  payload: StorePayload,
  images: readonly BundleImage[],
  { host }: VerifyContext,
): Promise<Checked> {
  const image = join(directory, payload.image);
  if (process.getuid?.() !== 0)
    return { faults: [], notices: [`${image} was not mounted, which needs root: the names in it were not checked`] };
  try {
    await using store = await mountReadOnly(host, { device: image, fileSystem: 'squashfs', target: await privateTarget(host) });
    const found = await inspectStorage({ graphroot: store.path, runroot: store.path });
    return { faults: storeFaults(payload, images, found), notices: [] };
  } catch (error) {
    return { faults: [faultOf(payload.image, error)], notices: [] };
  }
}

/** The faults of a store: images that are missing, damaged, or lack a name. Pure. */
function storeFaults(payload: StorePayload, images: readonly BundleImage[], found: StorageContents): readonly BundleFault[] {
  const fault = (what: string): BundleFault => ({
    path: payload.image,
    ...errorRecord(new PrestageError('ERR_BUNDLE_FILE', `${payload.image}: ${what}`, 'Build the bundle again at the factory')),
  });
  const known = new Set(found.images.flatMap((image) => image.names));
  const registry = payload.registryImage;
  return [
    ...images.flatMap(({ reference, names, manifestDigest }) => {
      const stored = found.images.find((image) => image.digests.includes(manifestDigest));
      if (stored === undefined) return [fault(`${reference}: the store has no image with the manifest ${manifestDigest}`)];
      return [
        ...stored.damage.map((what) => fault(`${reference}: ${what}`)),
        ...names.filter((name) => !known.has(name)).map((name) => fault(`${reference}: its image lacks the name ${name}`)),
      ];
    }),
    ...(registry !== undefined && !known.has(registry) ? [fault(`the registry image ${registry} is not in the store`)] : []),
  ];
}

function toolMissing(error: unknown): ExecResult | undefined {
  if (error instanceof PrestageError && error.code === 'ERR_TOOL_MISSING') return undefined;
  throw error;
}
