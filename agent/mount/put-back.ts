import { existsSync } from 'node:fs';
import { type Host, hostPath } from '../host/host.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import { verityDevice } from './mount-argv.ts';
import { mountImage, openVerity } from './mount-image.ts';
import { backingFileOf, mountsAt } from './mounted.ts';
import { readOpenStore, type StoreRecord, writeStoreRecord } from './store-record.ts';

/** The store that is mounted before it is closed. */
export interface StoreBefore {
  /** Undefined for a mount without a valid record, which a killed run leaves. */
  readonly record: StoreRecord | undefined;
  /** The device that is mounted; undefined if none is. */
  readonly source: string | undefined;
  /** The file behind the device, if it is a loop device. */
  readonly image: string | undefined;
}

/** Looks at what there is to put back. Changes nothing. */
export async function storeBefore(host: Host): Promise<StoreBefore> {
  const source = (await mountsAt(hostPath(host, STORE_PATH))).at(-1)?.source;
  return { record: await readOpenStore(host), source, image: source === undefined ? undefined : await backingFileOf(source) };
}

/**
 * Opens a store again as it was, with device, mount and record, because a step of its closing failed. Parts that are still there are kept.
 * @returns the error to throw: ERR_STORE_BUSY if the store is open as before, ERR_STORE_MOUNT if it cannot be opened any more
 */
export async function putBack(host: Host, before: StoreBefore, failure: unknown): Promise<PrestageError> {
  const path = hostPath(host, STORE_PATH);
  const { record, source } = before;
  try {
    if (source !== undefined && (await mountsAt(path)).length === 0) await mountImage(host, await sourceOf(host, before, source));
    if (record !== undefined && (await readOpenStore(host)) === undefined) await writeStoreRecord(host, record);
  } catch (error) {
    return new PrestageError(
      'ERR_STORE_MOUNT',
      `the store at ${path} could not be closed completely: ${messageOf(failure)}; and it cannot be opened again: ${messageOf(error)}`,
      'Start the run again to open the store image of the bundle; if that fails, restart the node',
      { cause: failure },
    );
  }
  if (failure instanceof PrestageError && failure.code === 'ERR_STORE_BUSY') return failure;
  return new PrestageError(
    'ERR_STORE_BUSY',
    `the store at ${path} cannot be closed, and stays open: ${messageOf(failure)}`,
    'Remove the cause, then run the command again; or restart the node',
    { cause: failure },
  );
}

/** The device if it still has the image, otherwise the image itself. */
async function sourceOf(
  host: Host,
  { record, image }: StoreBefore,
  source: string,
): Promise<{ readonly source: string; readonly isFile: boolean }> {
  if (record?.trust === 'verity') {
    const { stage, verity } = record;
    if (existsSync(hostPath(host, verityDevice(stage))) || verity === undefined) return { source, isFile: false };
    return { source: await openVerity(host, { stage, image: record.image, ...verity }), isFile: false };
  }
  if (image === undefined || (await backingFileOf(source)) === image) return { source, isFile: false };
  return { source: image, isFile: true };
}
