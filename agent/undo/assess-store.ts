import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import { readUncached } from '../host/uncached-read.ts';
import { type ErrorRecord, errorRecord, PrestageError } from '../model/errors.ts';
import { STORE_PATH } from '../model/places.ts';
import { reasonOf } from '../model/system-error.ts';
import type { StoreRecord } from '../mount/store-record.ts';

/** What is known about the store image that should be open, or was. */
export interface StoreFacts {
  /** The store image that the bundle has for the stage, by its prestage.json; left out if it has none, or if there is no bundle. */
  readonly wanted?: { readonly sha256: string };
  /** Why partition, bundle or store image could not be opened. */
  readonly failure?: ErrorRecord;
  /** The store image that is open. */
  readonly open?: { readonly sha256: string; readonly image: string };
  /** The result of reading from the open store. */
  readonly probe: StoreProbe;
  /** The result of hashing the open image; left out if it was not hashed. */
  readonly check?: { readonly kind: 'intact' | 'none' } | { readonly kind: 'damaged'; readonly fault: string };
}

/** `readable` also if nothing is mounted: then the empty store is read. */
export type StoreProbe = { readonly kind: 'readable' } | { readonly kind: 'unreadable'; readonly path: string; readonly reason: string };

export type StoreVerdict = { readonly kind: 'intact' } | { readonly kind: 'heal'; readonly error: ErrorRecord };

/** Failures that mean that a store image exists but is wrong; all others mean that it cannot be reached. */
const DAMAGE: ReadonlySet<string> = new Set([
  'ERR_STORE_DIGEST',
  'ERR_STORE_MOUNT',
  'ERR_BUNDLE_FILE',
  'ERR_BUNDLE_PIN',
  'ERR_BUNDLE',
  'ERR_BUNDLE_PARTIAL',
]);

/**
 * Whether the store can stay as it is, and if not, why engines must do without it. The store itself counts more than its source: an open store that can
 * be read and has the right bytes stays open even if the partition is missing at the moment. Pure.
 */
export function assessStore(facts: StoreFacts): StoreVerdict {
  const { wanted, failure, open, probe, check } = facts;
  const what = open === undefined ? 'the store' : `the store image ${open.image}`;
  if (probe.kind === 'unreadable') return damageVerdict(`${what} cannot be read: ${probe.path}: ${probe.reason}`);
  if (check?.kind === 'damaged') return damageVerdict(`${what} ${check.fault}`);
  if (open !== undefined && wanted !== undefined && wanted.sha256 !== open.sha256) {
    return heal(
      'ERR_STORE_EXCHANGED',
      `the bundle has a store image with sha256 ${wanted.sha256}, but ${open.image} with sha256 ${open.sha256} is open`,
      'Start the run again to open the new store image; if the bundle should not have changed, write it again',
    );
  }
  if (open !== undefined) return { kind: 'intact' };
  if (failure !== undefined && DAMAGE.has(failure.code)) return damageVerdict(failure.message, failure.remedy);
  if (failure !== undefined) return gone(failure.message, failure.remedy);
  return { kind: 'intact' };
}

function damageVerdict(message: string, remedy = 'Write the bundle to the partition again, then start the run again'): StoreVerdict {
  return heal('ERR_STORE_DAMAGED', message, remedy);
}

function gone(message: string, remedy: string): StoreVerdict {
  return heal('ERR_STORE_GONE', `the store image cannot be reached: ${message}`, remedy);
}

function heal(code: 'ERR_STORE_GONE' | 'ERR_STORE_DAMAGED' | 'ERR_STORE_EXCHANGED', message: string, remedy: string): StoreVerdict {
  return { kind: 'heal', error: errorRecord(new PrestageError(code, message, remedy)) };
}

/** The records of a store, which every engine reads completely before anything else. */
const RECORDS = ['overlay-images/images.json', 'overlay-layers/layers.json'] as const;

/** How long a run waits for the disk of a store before it gives up the store: longer than the retries of a kernel. */
const HEAL_LIMIT_MS = 60_000;

export interface ProbeOptions {
  /** The record of the store that is open; left out if none is. */
  readonly open?: StoreRecord | undefined;
  /** A disk that does not answer within this time counts as unreadable. */
  readonly limitMs?: number;
}

/**
 * Reads from the store. First blocks of its image from the disk itself, because the kernel may have all records in memory although the disk is gone; then
 * what an engine reads first: the records, and a small file of the last layer. If the device is gone, or dm-verity refuses its blocks, the input/output
 * error occurs here and not in the first container.
 * @throws NodeJS.ErrnoException EACCES if this user may not read it; PrestageError ERR_TOOL_MISSING
 */
export async function probeStore(host: Host, { open, limitMs = HEAL_LIMIT_MS }: ProbeOptions = {}): Promise<StoreProbe> {
  const fault = open === undefined || open.placement === 'ram' ? undefined : await diskFault(open, limitMs);
  return fault ?? (await probeRecords(hostPath(host, STORE_PATH)));
}

async function diskFault({ image, sizeBytes }: StoreRecord, limitMs: number): Promise<StoreProbe | undefined> {
  const found = await readUncached({ path: image, sizeBytes }, limitMs);
  // The mount keeps its file, even if the name is removed.
  if (found.kind === 'read' || found.kind === 'missing') return undefined;
  if (found.kind === 'silent') return { kind: 'unreadable', path: image, reason: `its disk did not answer within ${limitMs / 1000} s` };
  if (found.kind === 'denied') throw Object.assign(new Error(found.reason), { code: 'EACCES' });
  return { kind: 'unreadable', path: image, reason: found.reason };
}

async function probeRecords(store: string): Promise<StoreProbe> {
  for (const name of RECORDS) {
    const path = join(store, name);
    const found = await readJson(path);
    if (typeof found === 'string') return { kind: 'unreadable', path, reason: found };
    const last: unknown = found.at(-1);
    if (name !== 'overlay-layers/layers.json' || typeof last !== 'object' || last === null || !('id' in last)) continue;
    const link = join(store, 'overlay', String(last.id), 'link');
    const reason = await readFile(link).then(
      ({ length }) => (length > 0 ? undefined : 'it is empty'),
      (error: unknown) => reasonOf(unlessDenied(error)),
    );
    if (reason !== undefined) return { kind: 'unreadable', path: link, reason };
  }
  return { kind: 'readable' };
}

/** The records in a file, or why there are none. */
async function readJson(path: string): Promise<readonly unknown[] | string> {
  try {
    const parsed: unknown = JSON.parse(await readFile(path, 'utf8'));
    return Array.isArray(parsed) ? parsed : 'it does not hold a list of records';
  } catch (error) {
    return reasonOf(unlessDenied(error));
  }
}

/** If this user may not read a file, nothing is known about it. */
function unlessDenied(error: unknown): unknown {
  if (error instanceof Error && 'code' in error && error.code === 'EACCES') throw error;
  return error;
}
