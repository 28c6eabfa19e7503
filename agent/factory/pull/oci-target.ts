import { join } from 'node:path';
import { readAbsentInstances } from '../../extract/absent-instances.ts';
import type { Act } from '../../host/acts.ts';
import { writeAtomic } from '../../host/atomic.ts';
import { readIfThere } from '../../host/files.ts';
import { ABSENT_INSTANCES_FILE, formatAbsentInstances } from '../../model/absent-instances.ts';
import { OCI_MANIFEST_TYPE } from '../../model/attached.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { formatOciIndex, OCI_INDEX_FILE, OCI_MARKER, OCI_MARKER_FILE, type OciEntry, parseOciIndex } from '../../model/oci-layout.ts';
import { formatLookasideRecord, LOOKASIDE_FILE } from '../../signatures/lookaside.ts';
import { type BlobStore, targetError } from '../shared/blob-store.ts';
import { readLookasideRecord } from '../shared/lookaside-record.ts';
import type { AbsentRecord } from './absent-record.ts';
import type { PullTarget } from './target.ts';
import { type KeptLists, writeLists } from './write-lists.ts';

export interface OciTargetOptions extends KeptLists {
  readonly store: BlobStore;
  /** Saved together with the index. */
  readonly absent: AbsentRecord;
  /** Full references, in the order of the list. */
  readonly references: readonly string[];
  readonly act: Act;
}

/**
 * Writes one OCI image layout. The index is written again after each image, and names an image only when all its blobs are there: so a
 * killed pull leaves a consistent layout.
 * @throws PrestageError ERR_LAYOUT if the folder holds an index that cannot be read; ERR_SIGNATURE for such a record of signatures
 */
export async function openOciTarget(options: OciTargetOptions): Promise<PullTarget> {
  const { directory, store, absent, references, act } = options;
  const path = join(directory, OCI_INDEX_FILE);
  const earlier = await readIndex(path);
  const lookaside = new Map((await readLookasideRecord(directory)).map((entry) => [lookasideKey(entry.repository, entry.subject), entry]));
  const lists = new Map(await readAbsentInstances(directory));
  const pulled = new Map<string, OciEntry>();
  const beside = new Map<string, OciEntry>();
  const images = new Set(references);
  let written = Promise.resolve();
  let isQueued = false;
  const writeIndex = async (): Promise<void> => {
    isQueued = false;
    await act('write-index', async () => {
      await store.sync();
      await writeAtomic(join(directory, OCI_MARKER_FILE), OCI_MARKER);
      if (lookaside.size > 0) await writeAtomic(join(directory, LOOKASIDE_FILE), formatLookasideRecord([...lookaside.values()]));
      if (lists.size > 0) await writeAtomic(join(directory, ABSENT_INSTANCES_FILE), formatAbsentInstances(lists));
      await writeAtomic(path, formatOciIndex(withBeside(mergeEntries(earlier, references, pulled), beside)));
      await absent.save();
    });
  };
  return {
    store,
    isDelivered: async () => false,
    extraBytes: () => 0,
    attachmentOf: (reference) => earlier.find((entry) => entry.reference === reference)?.digest,
    lookasideOf: (repository, subject) => lookaside.get(lookasideKey(repository, subject)),
    deliver: async ({ reference, top, mediaType, manifests, absent: lacking }, { attachments, lookaside: found, attached }) => {
      for (const { digest, bytes } of manifests) await store.writeSmall(digest, bytes);
      if (top.manifest.kind === 'index') lists.set(top.digest, lacking);
      pulled.set(reference, { reference, digest: top.digest, sizeBytes: top.bytes.length, mediaType });
      for (const one of [...attachments.map((each) => ({ ...each, mediaType: OCI_MANIFEST_TYPE })), ...attached]) {
        const { reference: name, digest, sizeBytes, mediaType: type } = one;
        // An image can be listed by a tag that looks like that of a list of referrers.
        if (!images.has(name)) beside.set(name, { reference: name, digest, sizeBytes, mediaType: type });
      }
      for (const entry of found) lookaside.set(lookasideKey(entry.repository, entry.subject), entry);
      // One write at a time; it covers all images that are done when it starts.
      if (!isQueued) {
        isQueued = true;
        written = written.then(writeIndex).catch((error: unknown) => {
          throw targetError(error);
        });
      }
      await written;
    },
    finish: async () => {
      await written;
      if (options.lists.size > 0) await act('write-lists', async () => await writeLists(options));
    },
  };
}

function lookasideKey(repository: string, subject: Digest): string {
  return `${repository}@${subject}`;
}

/**
 * The entries after a pull: those of earlier pulls that are not listed now, in their order, then the listed ones in the order of the list. If
 * a name now leads to another image, only the new entry is kept. Pure.
 */
export function mergeEntries(
  earlier: readonly OciEntry[],
  references: readonly string[],
  pulled: ReadonlyMap<string, OciEntry>,
): readonly OciEntry[] {
  const own = new Set(references);
  const before = new Map(earlier.map((entry) => [entry.reference, entry]));
  const mine = references.map((reference) => pulled.get(reference) ?? before.get(reference));
  return [...earlier.filter(({ reference }) => !own.has(reference)), ...mine.filter((entry) => entry !== undefined)];
}

/** Puts signatures and attachments after the images, under names that contain the manifest they belong to. Pure. */
function withBeside(entries: readonly OciEntry[], beside: ReadonlyMap<string, OciEntry>): readonly OciEntry[] {
  const others = entries.filter(({ reference }) => !beside.has(reference));
  return [...others, ...[...beside.values()].toSorted((a, b) => (a.reference < b.reference ? -1 : 1))];
}

async function readIndex(path: string): Promise<readonly OciEntry[]> {
  const text = await readIfThere(path);
  if (text === undefined) return [];
  try {
    const { entries, skipped } = parseOciIndex(text, path);
    const [first] = skipped;
    // Skipped entries would be lost when the index is written again.
    if (first !== undefined) throw new PrestageError('ERR_LAYOUT', `${path}: ${first.place}: ${first.reason}`, '');
    return entries;
  } catch (cause) {
    if (!(cause instanceof PrestageError)) throw cause;
    throw new PrestageError(cause.code, cause.message, `Give another --to, or remove ${path}: pulled blobs are kept`, { cause });
  }
}
