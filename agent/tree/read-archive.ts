import { archiveFault, quoteText } from '../extract/archive-faults.ts';
import type { Refuse } from '../extract/entry-policy.ts';
import type { BlobPlace, FillJob } from '../extract/fill-tree.ts';
import { type Digest, isDigest } from '../model/digest.ts';
import { type ErrorCode, PrestageError } from '../model/errors.ts';
import { judgeOcMirrorMember, type OcMirrorMember, type ResourceKind } from './oc-mirror-member.ts';
import { type TarMember, walkTar } from './walk-tar.ts';

/** Content read so far from the archives of one oc-mirror run. Within a run, nothing may appear twice with different content. */
export interface SetReading {
  /** Digests of tags, by the path of the link. */
  readonly tags: Map<string, Digest>;
  /** Texts about sources, by member name. */
  readonly texts: Map<string, { readonly kind: ResourceKind; readonly text: string }>;
}

/** Members that a thread processes in one job. */
export type Batch = Pick<FillJob, 'blobs' | 'links'>;

/**
 * Content of one batch: large enough that the cost of a job does not matter, small enough that the threads finish at about the same time. A larger
 * blob is a batch of its own.
 */
const BATCH_BYTES = 16 * 2 ** 20;
/** Most files of one batch. */
const BATCH_FILES = 512;
/** Most members of an archive. Ten releases with all operators have about 100,000 links. */
const MEMBER_LIMIT = 1_000_000;

/** Errors that affect only the images that need the archive. Any other error stops the unpacking. */
const DAMAGE: ReadonlySet<ErrorCode> = new Set([
  'ERR_ARCHIVE_READ',
  'ERR_ARCHIVE_MISSING',
  'ERR_ARCHIVE_TRUNCATED',
  'ERR_ARCHIVE_TAR',
  'ERR_ARCHIVE_DIGEST',
]);

/** Whether an archive is damaged, as opposed to not written by oc-mirror. */
export function isDamage(error: unknown): error is PrestageError {
  return error instanceof PrestageError && DAMAGE.has(error.code);
}

/**
 * Reads an archive of oc-mirror to find what is where: links and texts are read, blobs only located. Members before a damaged place are yielded
 * before the error is thrown.
 * @throws PrestageError of walkTar and judgeOcMirrorMember; ERR_MIRROR_LINK, ERR_ARCHIVE_DUPLICATE, ERR_ARCHIVE_COUNT
 */
export async function* readOcMirrorArchive(path: string, reading: SetReading): AsyncGenerator<Batch, void, undefined> {
  let fault: PrestageError | undefined;
  let [batch, bytes, members] = [emptyBatch(), 0, 0];
  try {
    for await (const entry of walkTar(path)) {
      if (++members > MEMBER_LIMIT) throw archiveFault('ERR_ARCHIVE_COUNT', path, `has more than ${MEMBER_LIMIT} members`);
      bytes += await takeMember(path, entry, reading, batch);
      if (bytes < BATCH_BYTES && batch.blobs.length + batch.links.length < BATCH_FILES) continue;
      yield batch;
      [batch, bytes] = [emptyBatch(), 0];
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    fault = error;
  }
  if (batch.blobs.length + batch.links.length > 0) yield batch;
  if (fault !== undefined) throw fault;
}

interface OpenBatch {
  readonly blobs: BlobPlace[];
  readonly links: FillJob['links'][number][];
}

function emptyBatch(): OpenBatch {
  return { blobs: [], links: [] };
}

/** @returns the number of bytes that a thread has to read for it */
async function takeMember(path: string, entry: TarMember, reading: SetReading, batch: OpenBatch): Promise<number> {
  const { header, at } = entry;
  const refuse = (code: ErrorCode, what: string): Error => archiveFault(code, path, `member ${quoteText(header.name)} ${what}`);
  const member = judgeOcMirrorMember(header, refuse);
  switch (member.kind) {
    case 'other':
      return 0;
    case 'resource':
      await readText(member.resource, entry, reading, refuse);
      return 0;
    case 'link':
    case 'tag':
      batch.links.push(await readLink(member, entry, reading, refuse));
      return 0;
    case 'blob':
      batch.blobs.push({ digest: member.digest, at, sizeBytes: header.sizeBytes });
      return header.sizeBytes;
  }
}

async function readLink(
  member: Extract<OcMirrorMember, { kind: 'link' | 'tag' }>,
  entry: TarMember,
  reading: SetReading,
  refuse: Refuse,
): Promise<FillJob['links'][number]> {
  const text = (await entry.read()).toString('latin1').trim();
  if (!isDigest(text)) throw refuse('ERR_MIRROR_LINK', `holds ${quoteText(text)}, not sha256:<64 lower-case hex digits>`);
  if (member.kind === 'link') {
    if (text !== member.digest) throw refuse('ERR_MIRROR_LINK', `holds ${text}, not the digest in its path`);
    return { path: member.path, digest: text };
  }
  const earlier = reading.tags.get(member.path);
  if (earlier !== undefined && earlier !== text) throw refuse('ERR_ARCHIVE_DUPLICATE', `appears twice, as ${earlier} and as ${text}`);
  reading.tags.set(member.path, text);
  return { path: member.path, digest: text };
}

async function readText(kind: ResourceKind, entry: TarMember, reading: SetReading, refuse: Refuse): Promise<void> {
  const text = (await entry.read()).toString('utf8');
  const earlier = reading.texts.get(entry.header.name);
  if (earlier !== undefined && earlier.text !== text) throw refuse('ERR_ARCHIVE_DUPLICATE', 'appears twice with different content');
  reading.texts.set(entry.header.name, { kind, text });
}
