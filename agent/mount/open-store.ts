import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchivePool } from '../extract/pool.ts';
import type { Act } from '../host/acts.ts';
import { readBootId } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { removeTrees } from '../host/remove-tree.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { DISK_COPY_PATH, STORE_PATH } from '../model/places.ts';
import type { Stage } from '../model/stage.ts';
import type { Placement, PlacementChoice, Trust, TrustChoice, Verified } from '../model/store.ts';
import { closeStore } from './close-store.ts';
import { ensureEmptyStore } from './empty-store.ts';
import { openVerity } from './mount-image.ts';
import { mountPlaced } from './mount-placed.ts';
import { diskCopyOf, type PlacedImage, placeImage } from './place-image.ts';
import { type ChosenPlacement, choosePlacements } from './placement.ts';
import type { StoreImage } from './store-image.ts';
import { readOpenStore, type StoreRecord, writeStoreRecord } from './store-record.ts';
import { type ChosenTrust, chooseTrust, type TrustFacts, verityFacts } from './trust.ts';

export interface OpenStoreRequest {
  readonly image: StoreImage;
  /** The opened bundle, read-only. Not touched if the disk already has a copy. */
  readonly bundleDirectory: string;
  readonly stage: Stage;
  /** The bundle lies on a medium that nothing is installed to. */
  readonly isMedium?: boolean;
  readonly trust: TrustChoice;
  readonly placement: PlacementChoice;
  /** What a copy in memory must leave free; from the memory of the machine if left out. */
  readonly memoryReserveBytes?: number | undefined;
  readonly act: Act;
  readonly signal: AbortSignal;
  /** Bytes of the image that have been read so far; only called if it is copied or hashed. */
  readonly onProgress?: (bytes: number) => void;
  /** Hashes if nothing is copied. */
  readonly pool: ArchivePool;
}

const NO_ROOM: ReadonlySet<string> = new Set(['ERR_SPACE_MEMORY', 'ERR_SPACE_STORE']);

export interface OpenedStore {
  readonly trust: Trust;
  readonly trustReason: string;
  readonly placement: Placement;
  /** Where the store is mounted: STORE_PATH below the host's root. */
  readonly path: string;
  /** The file that is mounted. */
  readonly image: string;
  readonly sha256: string;
  readonly verified: Verified;
  /** It was open already, and nothing was done. */
  readonly wasOpen: boolean;
  /** The partition has to stay for as long as the store is open. */
  readonly servesFromPartition: boolean;
  /** What people should know about how it was opened. */
  readonly notices: readonly string[];
}

/**
 * Mounts a store image at STORE_PATH. A store that is open already is kept if it has the same sha256 and the requested placement and trust; another
 * one is closed first. After any error but ERR_STORE_BUSY a valid empty store is there, and nothing of ours stays mounted; after ERR_STORE_BUSY the
 * store is open as before.
 * @throws PrestageError ERR_TRUST, ERR_STORE_DIGEST, ERR_STORE_MOUNT, ERR_STORE_UNSUPPORTED, ERR_STORE_BUSY, ERR_BUNDLE_FILE, ERR_SPACE_MEMORY, ERR_SPACE_STORE;
 * the signal's reason
 */
export async function openStore(host: Host, request: OpenStoreRequest): Promise<OpenedStore> {
  const { act } = request;
  const before = await readOpenStore(host);
  if (before !== undefined && isAsWanted(before, request)) {
    // The run that opened it may have been killed before this.
    await removeOtherCopies(host, request, before.placement);
    return opened(host, before, { wasOpen: true, notices: [] });
  }
  await closeBefore(host, act);
  await ensureEmptyStore(host, act);
  try {
    const { record, notices } = await openFirst(host, request);
    await removeOtherCopies(host, request, record.placement);
    return opened(host, record, { wasOpen: false, notices });
  } catch (error) {
    await closeAfter(host, request, error);
    throw error;
  }
}

async function closeBefore(host: Host, act: Act): Promise<void> {
  try {
    await closeStore(host, { act, force: false });
  } catch (error) {
    if (!(error instanceof PrestageError && error.code === 'ERR_STORE_BUSY')) await ensureEmptyStore(host, act);
    throw error;
  }
}

/** Whether an open store is kept. A store whose check is still pending does not satisfy a request for trust `hash`. Pure. */
export function isAsWanted(
  record: StoreRecord,
  { image, trust, placement }: Pick<OpenStoreRequest, 'trust' | 'placement'> & { readonly image: Pick<StoreImage, 'sha256'> },
): boolean {
  const isTrusted = trust === 'auto' || trust === record.trust || (trust === 'hash' && ['before-mount', 'yes'].includes(record.verified));
  return record.sha256 === image.sha256 && isTrusted && (placement === 'auto' || placement === record.placement);
}

/** Opens it at the first of its placements that has room for it. */
async function openFirst(
  host: Host,
  request: OpenStoreRequest,
): Promise<{ readonly record: StoreRecord; readonly notices: readonly string[] }> {
  const { stage, act, isMedium = false } = request;
  const notices: string[] = [];
  const [first, ...others] = choosePlacements(request.placement, { stage, isMedium });
  let placement = first;
  for (const next of others) {
    try {
      return { record: await openClosed(host, request, placement), notices };
    } catch (error) {
      if (!(error instanceof PrestageError) || !NO_ROOM.has(error.code)) throw error;
      notices.push(`the store image is used from the ${next.kind}, and not from ${placement.kind}: ${error.message}`);
      await closeStore(host, { act, force: true });
    }
    placement = next;
  }
  return { record: await openClosed(host, request, placement), notices };
}

/** Opens the store when none is open. After an error the caller must close what is left. */
async function openClosed(host: Host, request: OpenStoreRequest, placement: ChosenPlacement): Promise<StoreRecord> {
  const { image, act, stage } = request;
  const facts = await trustFacts(host, image, placement.kind);
  const wanted = chooseTrust(request.trust, facts);
  host.log('info', `store image: placement ${placement.kind}, ${placement.reason}; trust ${wanted.kind}, ${wanted.reason}`);
  const placed = await placeImage(host, {
    ...request,
    placement: placement.kind,
    withHashTree: wanted.kind === 'verity',
    mustHash: wanted.kind === 'hash',
    onProgress: request.onProgress ?? ignore,
  });
  request.signal.throwIfAborted();
  const { trust, source } = await sourceOf(host, { request, placed, wanted, facts });
  const record: StoreRecord = {
    bootId: await readBootId(),
    stage,
    trust: trust.kind,
    trustReason: trust.reason,
    placement: placement.kind,
    image: placed.path,
    sha256: image.sha256,
    sizeBytes: image.sizeBytes,
    verified: verifiedBy(trust.kind, placed),
    opening: randomUUID(),
    ...(trust.kind === 'verity' && placed.hashTree !== undefined && { verity: { hashTree: placed.hashTree, rootHash: image.rootHash } }),
  };
  await act('record-store', async () => await writeStoreRecord(host, record));
  const onProgress = request.onProgress ?? ignore;
  await act('mount-store', async () => await mountPlaced(host, { record, placed, source, request: { ...request, onProgress } }));
  return record;
}

async function trustFacts(host: Host, image: StoreImage, placement: Placement): Promise<TrustFacts> {
  const copy = diskCopyOf(host, image.sha256);
  const isCopied = placement === 'disk' && existsSync(copy.image);
  const hasHashTree = existsSync(image.hashTree) || (isCopied && existsSync(copy.hashTree));
  return { ...(await verityFacts(host)), hasHashTree, isCopiedNow: placement !== 'partition' && !isCopied };
}

interface SourceRequest {
  readonly request: OpenStoreRequest;
  readonly placed: PlacedImage;
  readonly wanted: ChosenTrust;
  readonly facts: TrustFacts;
}

/** What to mount. If verity was not requested and the kernel turns out to lack it, another kind of trust is chosen. */
async function sourceOf(host: Host, of: SourceRequest): Promise<{ readonly trust: ChosenTrust; readonly source: string }> {
  const { request, placed, wanted, facts } = of;
  if (placed.hashTree === undefined) return { trust: wanted, source: placed.path };
  const { stage, image, act } = request;
  const opening = { stage, image: placed.path, hashTree: placed.hashTree, rootHash: image.rootHash };
  try {
    return { trust: wanted, source: await act('open-verity', async () => await openVerity(host, opening)) };
  } catch (error) {
    if (request.trust !== 'auto') {
      throw new PrestageError(
        'ERR_TRUST',
        `dm-verity was requested, but the kernel cannot set it up: ${messageOf(error)}`,
        'Give --trust auto, or --trust hash',
        { cause: error },
      );
    }
    host.log('warning', messageOf(error));
    const trust = chooseTrust('auto', { ...facts, verityLacks: 'dm-verity cannot open the image', isCopiedNow: placed.isHashed });
    return { trust, source: placed.path };
  }
}

function verifiedBy(trust: Trust, { isHashed }: PlacedImage): Verified {
  if (trust === 'verity') return 'kernel';
  return isHashed ? 'before-mount' : 'pending';
}

function opened(
  host: Host,
  record: StoreRecord,
  { wasOpen, notices }: { readonly wasOpen: boolean; readonly notices: readonly string[] },
): OpenedStore {
  const { trust, trustReason, placement, image, sha256, verified } = record;
  const path = hostPath(host, STORE_PATH);
  const servesFromPartition = placement === 'partition';
  return { trust, trustReason, placement, path, image, sha256, verified, wasOpen, servesFromPartition, notices };
}

/** Closes with force, because nobody can be using this store yet. */
async function closeAfter(host: Host, { act }: OpenStoreRequest, error: unknown): Promise<void> {
  try {
    await closeStore(host, { act, force: true });
  } catch (closing) {
    throw new SuppressedError(closing, error);
  }
}

/** Removes copies on the disk other than the open one. A copy that a container still uses only loses its name. It is not an error if a copy cannot be removed. */
async function removeOtherCopies(host: Host, { image, act }: OpenStoreRequest, placement: Placement): Promise<void> {
  const directory = hostPath(host, DISK_COPY_PATH);
  const isOpen = (name: string): boolean => placement === 'disk' && name.startsWith(image.sha256);
  const others = (await readdir(directory).catch(() => [])).filter((name) => !isOpen(name));
  if (others.length === 0) return;
  try {
    await act('remove-old-copies', async () => {
      await removeTrees(others.map((name) => join(directory, name)));
    });
  } catch (error) {
    host.log('warning', `old store images in ${directory} could not be removed: ${messageOf(error)}`);
  }
}

function ignore(): void {}
