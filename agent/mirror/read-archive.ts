import { archiveFault, quoted } from '../extract/archive-faults.ts';
import type { BlobPlace, FillJob } from '../extract/fill-tree.ts';
import { type Digest, isDigest } from '../model/digest.ts';
import type { ErrorCode } from '../model/errors.ts';
import { judgeMirrorMember, type MirrorMember, type ResourceKind } from './mirror-member.ts';
import { type TarMember, walkTar } from './walk-tar.ts';

/** What the archives of one run of oc-mirror have said so far: within a run nothing may be said twice with another content. */
export interface SetReading {
  /** Where tags lead to, by the path of the link. */
  readonly tags: Map<string, Digest>;
  /** Texts about sources, by the name of the member. */
  readonly texts: Map<string, { readonly kind: ResourceKind; readonly text: string }>;
}

/** Members that a thread takes at one time. */
export type Batch = Pick<FillJob, 'blobs' | 'links'>;

/**
 * Content of one batch: enough that asking a thread costs nothing beside it, and little enough that threads end at about one time. A blob that
 * is larger is a batch of its own.
 */
const BATCH_BYTES = 16 * 2 ** 20;
/** Files of one batch. */
const BATCH_FILES = 512;
/** Members of an archive. Ten releases with all operators have some 100 000 links. */
const MEMBER_LIMIT = 1_000_000;

/**
 * Reads an archive of oc-mirror as far as it has to be read to know what lies where: links and texts are read, blobs only placed.
 * @throws PrestageError of walkTar and judgeMirrorMember; ERR_MIRROR_LINK, ERR_ARCHIVE_DUPLICATE, ERR_ARCHIVE_COUNT
 */
export async function* readMirrorArchive(path: string, reading: SetReading): AsyncGenerator<Batch, void, undefined> {
  let [blobs, links, bytes, members] = [[] as BlobPlace[], [] as FillJob['links'][number][], 0, 0];
  for await (const entry of walkTar(path)) {
    const refuse = (code: ErrorCode, what: string): Error => archiveFault(code, path, `member ${quoted(entry.header.name)} ${what}`);
    if (++members > MEMBER_LIMIT) throw archiveFault('ERR_ARCHIVE_COUNT', path, `has more than ${MEMBER_LIMIT} members`);
    const member = judgeMirrorMember(entry.header, refuse);
    if (member.kind === 'blob') {
      blobs.push({ digest: member.digest, at: entry.at, sizeBytes: entry.header.sizeBytes });
      bytes += entry.header.sizeBytes;
    }
    if (member.kind === 'link' || member.kind === 'tag') links.push(await readLink(member, entry, reading, refuse));
    if (member.kind === 'resource') await readText(member.resource, entry, reading, refuse);
    if (bytes < BATCH_BYTES && blobs.length + links.length < BATCH_FILES) continue;
    yield { blobs, links };
    [blobs, links, bytes] = [[], [], 0];
  }
  if (blobs.length + links.length > 0) yield { blobs, links };
}

type Refuse = (code: ErrorCode, what: string) => Error;

async function readLink(
  member: Extract<MirrorMember, { kind: 'link' | 'tag' }>,
  entry: TarMember,
  reading: SetReading,
  refuse: Refuse,
): Promise<FillJob['links'][number]> {
  const text = (await entry.read()).toString('latin1').trim();
  if (!isDigest(text)) throw refuse('ERR_MIRROR_LINK', `holds ${quoted(text)}, not sha256: and 64 lower-case hex digits`);
  if (member.kind === 'link') {
    if (text !== member.digest) throw refuse('ERR_MIRROR_LINK', `holds ${text}, not the digest of its place`);
    return { path: member.path, digest: text };
  }
  const earlier = reading.tags.get(member.path);
  if (earlier !== undefined && earlier !== text) throw refuse('ERR_ARCHIVE_DUPLICATE', `is there twice, as ${earlier} and as ${text}`);
  reading.tags.set(member.path, text);
  return { path: member.path, digest: text };
}

async function readText(kind: ResourceKind, entry: TarMember, reading: SetReading, refuse: Refuse): Promise<void> {
  const text = (await entry.read()).toString('utf8');
  const earlier = reading.texts.get(entry.header.name);
  if (earlier !== undefined && earlier.text !== text) throw refuse('ERR_ARCHIVE_DUPLICATE', 'is there twice with different content');
  reading.texts.set(entry.header.name, { kind, text });
}
