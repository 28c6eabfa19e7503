import type { Log } from '../../host/log.ts';
import {
  type AttachedKind,
  type AttachedManifest,
  attachedTag,
  checkNumber,
  formatReferrers,
  OCI_INDEX_TYPE,
  OCI_MANIFEST_TYPE,
  parseAttached,
  parseReferrers,
  type Referrer,
  referrersTag,
  TAGGED_KINDS,
} from '../../model/attached.ts';
import { type Digest, digestOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { type Descriptor, MANIFEST_LIMIT_BYTES } from '../../model/manifest.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import type { HttpAnswer } from '../web/http.ts';
import type { ImagePlace } from '../web/image-places.ts';
import type { RegistryClient } from '../web/registry-client.ts';

/** One attachment of a manifest of an image; its blobs are in the store. */
export interface PulledAttached {
  readonly kind: AttachedKind;
  /** The manifest that it belongs to. */
  readonly subject: Digest;
  /** Of its own manifest, with its size in bytes. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly artifactType: string;
}

/** The content of one tag beside an image: an attachment, or the list of referrers with all referrers. */
export interface PulledTag {
  readonly tag: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly mediaType: string;
  readonly attached: readonly PulledAttached[];
}

export interface FetchContext {
  readonly client: RegistryClient;
  readonly store: BlobStore;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/** Looks up the content of one tag. */
export interface TagLookUp {
  readonly tag: string;
  /** Undefined if it is absent. @throws PrestageError ERR_PULL_*, ERR_FETCH_*, ERR_ATTACHMENT */
  fetch(place: ImagePlace, context: FetchContext): Promise<PulledTag | undefined>;
}

/** Statuses besides 404 of registries that cannot list referrers. Source: google/go-containerregistry, pkg/v1/remote/referrers.go. */
const NO_REFERRERS_API: readonly number[] = [400, 405, 406];
/** A page has some 100 referrers. */
const PAGES_LIMIT = 100;
const STANDS_BETWEEN = 'Check for a proxy that changes data on its way from the registry, then pull again';

/** All look-ups for a manifest. */
export function lookUpsOf(subject: Digest): readonly TagLookUp[] {
  return [
    ...TAGGED_KINDS.map((kind): TagLookUp => {
      const tag = attachedTag(subject, kind);
      return { tag, fetch: async (place, context) => await fetchTagged({ tag, kind, subject, place }, context) };
    }),
    { tag: referrersTag(subject), fetch: async (place, context) => await fetchReferrers(subject, place, context) },
  ];
}

interface Tagged {
  readonly tag: string;
  readonly kind: (typeof TAGGED_KINDS)[number];
  readonly subject: Digest;
  readonly place: ImagePlace;
}

async function fetchTagged({ tag, kind, subject, place }: Tagged, context: FetchContext): Promise<PulledTag | undefined> {
  const bytes = await manifestBytes(place, tag, context);
  if (bytes === undefined) return undefined;
  const where = `${place.name}:${tag}`;
  const manifest = parseAttached(bytes, where, { digest: subject, isNamed: false });
  const own = await keep({ bytes, manifest, where, place }, context);
  const attached = { kind, subject, artifactType: manifest.artifactType, ...own };
  return { tag, ...own, mediaType: OCI_MANIFEST_TYPE, attached: [attached] };
}

async function fetchReferrers(subject: Digest, place: ImagePlace, context: FetchContext): Promise<PulledTag | undefined> {
  const listed = (await listedByApi(subject, place, context)) ?? (await listedUnderTag(subject, place, context));
  const found: Referrer[] = [];
  for (const { digest } of new Map(listed.map((one) => [one.digest, one])).values()) {
    const where = `${place.name}@${digest}`;
    const bytes = await manifestBytes(place, digest, context);
    if (bytes === undefined) {
      context.log('notice', `${where} is left out: the registry lists it as a referrer of ${subject} but does not have it`);
      continue;
    }
    if (digestOf(bytes) !== digest) throw otherBytes(where, digest);
    const manifest = parseAttached(bytes, where, { digest: subject, isNamed: true });
    const { artifactType, annotations } = manifest;
    found.push({ ...(await keep({ bytes, manifest, where, place }, context)), artifactType, annotations });
  }
  if (found.length === 0) return undefined;
  const list = Buffer.from(formatReferrers(found));
  const tag = referrersTag(subject);
  // The size limit of a manifest also holds for this list.
  parseReferrers(list, `the list of referrers of ${place.name}@${subject}`);
  const digest = digestOf(list);
  await context.store.writeSmall(digest, list);
  const attached = found.map(
    (one): PulledAttached => ({ kind: 'referrer', subject, artifactType: one.artifactType, digest: one.digest, sizeBytes: one.sizeBytes }),
  );
  return { tag, digest, sizeBytes: list.length, mediaType: OCI_INDEX_TYPE, attached };
}

/** Undefined if the registry cannot list referrers. */
async function listedByApi(subject: Digest, place: ImagePlace, { client, signal }: FetchContext): Promise<readonly Referrer[] | undefined> {
  const where = `the list of referrers of ${place.name}@${subject}`;
  const found: Referrer[] = [];
  let next: string | undefined = `referrers/${subject}`;
  for (let page = 0; next !== undefined; page++) {
    if (page === PAGES_LIMIT) throw tooMuch(where, `it has more than ${PAGES_LIMIT} pages`);
    const answer = await client.get(place, next, { accept: OCI_INDEX_TYPE, absent: NO_REFERRERS_API, signal });
    const isList = answer?.header('content-type')?.startsWith(OCI_INDEX_TYPE) === true;
    if (answer === undefined || !isList) {
      answer?.drop();
      if (page === 0) return undefined;
      throw tooMuch(where, `its page ${page + 1} is not a list of referrers`);
    }
    const bytes = await client.bytesOf(answer, MANIFEST_LIMIT_BYTES, () =>
      tooMuch(where, `it has more than ${MANIFEST_LIMIT_BYTES} bytes`),
    );
    found.push(...parseReferrers(bytes, where));
    checkNumber(found.length, where);
    next = nextPage(answer);
  }
  return found;
}

/** Source: OCI distribution-spec, "Referrers Tag Schema". */
async function listedUnderTag(subject: Digest, place: ImagePlace, context: FetchContext): Promise<readonly Referrer[]> {
  const tag = referrersTag(subject);
  const bytes = await manifestBytes(place, tag, context);
  // Tools that mirror images by digest give them such a tag, too: then it leads to the image itself.
  if (bytes === undefined || digestOf(bytes) === subject) return [];
  return parseReferrers(bytes, `${place.name}:${tag}`);
}

/** The address of the next page. Source: RFC 8288. */
function nextPage(answer: HttpAnswer): string | undefined {
  const target = /<([^>]*)>\s*;[^,]*\brel="?next"?/i.exec(answer.header('link') ?? '')?.[1];
  return target === undefined ? undefined : new URL(target, answer.url).href;
}

async function manifestBytes(place: ImagePlace, name: string, { client, signal }: FetchContext): Promise<Buffer | undefined> {
  const answer = await client.get(place, `manifests/${name}`, { accept: `${OCI_MANIFEST_TYPE}, ${OCI_INDEX_TYPE}`, signal });
  if (answer === undefined) return undefined;
  const where = `${place.name}${name.startsWith('sha256:') ? '@' : ':'}${name}`;
  const tooLong = (): PrestageError => tooMuch(where, `it has more than ${MANIFEST_LIMIT_BYTES} bytes, the limit for a manifest`);
  return await client.bytesOf(answer, MANIFEST_LIMIT_BYTES, tooLong);
}

interface Kept {
  readonly bytes: Buffer;
  readonly manifest: AttachedManifest;
  readonly where: string;
  readonly place: ImagePlace;
}

/** Fetches the blobs, then stores the manifest that names them. */
async function keep(
  { bytes, manifest, where, place }: Kept,
  context: FetchContext,
): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> {
  for (const blob of manifest.blobs) if (!(await context.store.check(blob))) await fetchBlob(blob, { where, place }, context);
  const digest = digestOf(bytes);
  await context.store.writeSmall(digest, bytes);
  return { digest, sizeBytes: bytes.length };
}

async function fetchBlob(
  { digest, sizeBytes }: Descriptor,
  { where, place }: Pick<Kept, 'where' | 'place'>,
  { client, store, signal }: FetchContext,
): Promise<void> {
  const answer = await client.get(place, `blobs/${digest}`, { signal });
  if (answer === undefined) {
    throw new PrestageError(
      'ERR_PULL_MISSING',
      `${where} names the blob ${digest}, but the registry does not have it`,
      'Attach the artifact again, or pull without --attachments',
    );
  }
  const incoming = await store.receive();
  try {
    let givenBytes = 0;
    await client.each(answer, async (piece) => {
      givenBytes += piece.length;
      if (givenBytes > sizeBytes) throw otherBytes(where, digest);
      await incoming.write(piece);
    });
  } catch (error) {
    await incoming.drop();
    throw error;
  }
  if ((await incoming.finish(digest)) !== digest) throw otherBytes(where, digest);
}

function otherBytes(where: string, digest: Digest): PrestageError {
  return new PrestageError('ERR_PULL_DIGEST', `${where}: the registry sent data that does not match ${digest}`, STANDS_BETWEEN);
}

function tooMuch(where: string, what: string): PrestageError {
  return new PrestageError(
    'ERR_ATTACHMENT',
    `${where} cannot be used: ${what}`,
    'Correct the attachments of the image in the registry, or pull without --attachments',
  );
}
