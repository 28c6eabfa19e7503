import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import { type ErrorRecord, errorRecord, messageOf, PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';

/** What is known of the store image that should be open, or was. */
export interface StoreFacts {
  /** Of the store image that the bundle has for the stage, by its prestage.json; left out where it has none, or where there is no bundle. */
  readonly wanted?: { readonly sha256: string };
  /** Why partition, bundle or store image could not be opened. */
  readonly failure?: ErrorRecord;
  /** The store image that is open. */
  readonly open?: { readonly sha256: string; readonly image: string };
  /** What reading from the open store gave. */
  readonly probe: StoreProbe;
  /** What hashing the open image gave; left out where it was not hashed. */
  readonly check?: { readonly kind: 'intact' | 'none' } | { readonly kind: 'damaged'; readonly got: string };
}

/** `readable` also where nothing is mounted: then the empty store is read. */
export type StoreProbe = { readonly kind: 'readable' } | { readonly kind: 'unreadable'; readonly path: string; readonly reason: string };

export type StoreVerdict = { readonly kind: 'intact' } | { readonly kind: 'heal'; readonly error: ErrorRecord };

/** Failures that say that a store image is there and wrong; every other one says that it cannot be reached. */
const DAMAGE: ReadonlySet<string> = new Set([
  'ERR_STORE_DIGEST',
  'ERR_STORE_MOUNT',
  'ERR_BUNDLE_FILE',
  'ERR_BUNDLE_PIN',
  'ERR_BUNDLE',
  'ERR_BUNDLE_PARTIAL',
]);

/**
 * Whether the store can stay as it is, and if not, why engines must do without it. What the store itself shows counts more than what its
 * source shows: an open store that can be read and has the right bytes stays where the partition is away for the moment. Pure.
 */
export function assessStore(facts: StoreFacts): StoreVerdict {
  const { wanted, failure, open, probe, check } = facts;
  const what = open === undefined ? 'the store' : `the store image ${open.image}`;
  if (probe.kind === 'unreadable') return damaged(`${what} cannot be read: ${probe.path}: ${probe.reason}`);
  if (check?.kind === 'damaged') return damaged(`${what} should have the sha256 ${open?.sha256 ?? 'of its bundle'}, and has ${check.got}`);
  if (open !== undefined && wanted !== undefined && wanted.sha256 !== open.sha256) {
    return heal(
      'ERR_STORE_EXCHANGED',
      `the bundle has a store image of sha256 ${wanted.sha256}, and ${open.image} of sha256 ${open.sha256} is open`,
      'Start the run again, which opens the new one; where no other release is meant, write the bundle again',
    );
  }
  if (open !== undefined) return { kind: 'intact' };
  if (failure !== undefined && DAMAGE.has(failure.code)) return damaged(failure.message, failure.remedy);
  if (failure !== undefined) return gone(failure.message, failure.remedy);
  return { kind: 'intact' };
}

function damaged(message: string, remedy = 'Write the bundle to the partition again, then start the run again'): StoreVerdict {
  return heal('ERR_STORE_DAMAGED', message, remedy);
}

function gone(message: string, remedy: string): StoreVerdict {
  return heal('ERR_STORE_GONE', `the store image cannot be reached: ${message}`, remedy);
}

function heal(code: 'ERR_STORE_GONE' | 'ERR_STORE_DAMAGED' | 'ERR_STORE_EXCHANGED', message: string, remedy: string): StoreVerdict {
  return { kind: 'heal', error: errorRecord(new PrestageError(code, message, remedy)) };
}

/** A store's records, which every engine reads whole before anything else. */
const RECORDS = ['overlay-images/images.json', 'overlay-layers/layers.json'] as const;

/**
 * Reads from the store what an engine reads first: its records, and a small file of its last layer. A store on a device that is gone, or
 * whose blocks dm-verity refuses, gives an input/output error here and not in the first container.
 */
export async function probeStore(host: Host): Promise<StoreProbe> {
  const store = hostPath(host, STORE_PATH);
  for (const name of RECORDS) {
    const path = join(store, name);
    const found = await readJson(path);
    if (typeof found === 'string') return { kind: 'unreadable', path, reason: found };
    const last: unknown = found.at(-1);
    if (name !== 'overlay-layers/layers.json' || typeof last !== 'object' || last === null || !('id' in last)) continue;
    const link = join(store, 'overlay', String(last.id), 'link');
    const reason = await readFile(link).then(
      ({ length }) => (length > 0 ? undefined : 'it is empty'),
      (error: unknown) => messageOf(error),
    );
    if (reason !== undefined) return { kind: 'unreadable', path: link, reason };
  }
  return { kind: 'readable' };
}

/** The records in a file, or why there are none. */
async function readJson(path: string): Promise<readonly unknown[] | string> {
  try {
    const parsed: unknown = JSON.parse(await readFile(path, 'utf8'));
    return Array.isArray(parsed) ? parsed : 'it holds no list of records';
  } catch (error) {
    return messageOf(error);
  }
}
