import { readFile, rm } from 'node:fs/promises';
import * as v from 'valibot';
import { writeAtomic } from '../host/atomic.ts';
import { readBootId } from '../host/boot.ts';
import { type Host, hostPath } from '../host/host.ts';
import { STORE_PATH, STORE_RECORD } from '../model/places.ts';
import { sealRecord, unsealRecord } from '../model/seal.ts';
import { STAGES } from '../model/stage.ts';
import { PLACEMENTS, TRUSTS, VERIFIED } from '../model/store.ts';
import { verityDevice } from './mount-argv.ts';
import { backingFileOf, mountsAt } from './mounted.ts';

const recordSchema = v.object({
  bootId: v.string(),
  stage: v.picklist(STAGES),
  trust: v.picklist(TRUSTS),
  trustReason: v.string(),
  placement: v.picklist(PLACEMENTS),
  /** The file that is mounted, by a path where it can be read now. */
  image: v.string(),
  /** The digest that it should have, by the bundle; 64 hex digits. */
  sha256: v.string(),
  sizeBytes: v.number(),
  verified: v.picklist(VERIFIED),
  /** Identifies this opening; left out by earlier agents. */
  opening: v.optional(v.string()),
  /** What opens the dm-verity device again; left out for other kinds of trust, and by earlier agents. */
  verity: v.optional(v.object({ hashTree: v.string(), rootHash: v.string() })),
});

/** The open store, and how it is trusted, as recorded in STORE_RECORD. */
export type StoreRecord = Readonly<v.InferOutput<typeof recordSchema>>;

/** The open store; undefined if there is none, or if record, boot and mount table do not agree on one. */
export async function readOpenStore(host: Host): Promise<StoreRecord | undefined> {
  const text = await readFile(hostPath(host, STORE_RECORD), 'utf8').catch(() => undefined);
  const parsed = v.safeParse(recordSchema, text === undefined ? undefined : unsealRecord(text));
  if (!parsed.success || parsed.output.bootId !== (await readBootId())) return undefined;
  return (await isMounted(host, parsed.output)) ? parsed.output : undefined;
}

/** Writes the record; it is written before the mount, so that a store is never open without one. */
export async function writeStoreRecord(host: Host, record: StoreRecord): Promise<void> {
  await writeAtomic(hostPath(host, STORE_RECORD), sealRecord(record));
}

export async function removeStoreRecord(host: Host): Promise<void> {
  await rm(hostPath(host, STORE_RECORD), { force: true });
}

async function isMounted(host: Host, record: StoreRecord): Promise<boolean> {
  const seen = (await mountsAt(hostPath(host, STORE_PATH))).at(-1);
  if (seen === undefined) return false;
  return record.trust === 'verity' ? seen.source === verityDevice(record.stage) : (await backingFileOf(seen.source)) === record.image;
}
