import type { RegistriesView } from '../../engine/registries-view.ts';
import { OCI_INDEX_TYPE, OCI_MANIFEST_TYPE, parseAttached, parseReferrers } from '../../model/attached.ts';
import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { nameOf, type Reference } from '../../model/reference.ts';
import { type ImagePlace, imagePlaces } from '../web/image-places.ts';
import type { AbsentRecord } from './absent-record.ts';
import { type FetchContext, lookUpsOf, type PulledAttached, type PulledTag, type TagLookUp } from './attached-fetch.ts';
import { createFinder, type Finder } from './finder.ts';

/** The content of one tag beside an image, with its name in an OCI image layout. */
export interface NamedTag extends PulledTag {
  readonly reference: string;
}

/** Fetches the attachments of an image's manifests. It throws ERR_PULL_*, ERR_FETCH_* or ERR_ATTACHMENT if one is neither available nor absent. */
export type AttachedFinder = Finder<readonly NamedTag[]>;

export interface AttachedContext extends FetchContext {
  readonly registries: RegistriesView;
  /** The digest that an earlier pull has fetched under a name. */
  readonly known: (reference: string) => Digest | undefined;
  readonly absent: AbsentRecord;
}

export function createAttachedFinder(context: AttachedContext): AttachedFinder {
  return createFinder({
    keyOf: (repository, subject) => `${nameOf(repository)}@${subject}`,
    lookUp: async (repository, subject) => await tagsOf(repository, subject, context),
  });
}

async function tagsOf(repository: Reference, subject: Digest, context: AttachedContext): Promise<readonly NamedTag[] | undefined> {
  const name = nameOf(repository);
  const found: NamedTag[] = [];
  let place: ImagePlace | undefined;
  for (const lookUp of lookUpsOf(subject)) {
    const reference = `${name}:${lookUp.tag}`;
    const known = await knownTag(reference, lookUp.tag, { subject, ...context });
    if (known === undefined && context.absent.has(reference)) continue;
    if (known === undefined) place ??= await placeOf(name, subject, context);
    const tag = known ?? (place && (await lookUp.fetch(place, context)));
    context.absent.set(reference, tag === undefined);
    if (tag !== undefined) found.push({ ...tag, reference });
  }
  return found.length === 0 ? undefined : found;
}

/** The first place that has the manifest: skopeo has fetched the image from there. */
async function placeOf(name: string, subject: Digest, { registries, client, signal }: AttachedContext): Promise<ImagePlace> {
  const places = imagePlaces(registries, name);
  const [only] = places;
  if (only !== undefined && places.length === 1) return only;
  let fault: unknown;
  for (const place of places) {
    try {
      const answer = await client.get(place, `manifests/${subject}`, { method: 'HEAD', accept: MANIFEST_TYPES, signal });
      answer?.drop();
      if (answer !== undefined) return place;
    } catch (error) {
      signal.throwIfAborted();
      fault ??= error;
    }
  }
  if (fault instanceof Error) throw fault;
  throw new PrestageError(
    'ERR_PULL_MISSING',
    `${name}@${subject}: no configured registry has the image any more`,
    'Correct registries.conf, or pull without --attachments',
  );
}

const MANIFEST_TYPES = [
  OCI_MANIFEST_TYPE,
  OCI_INDEX_TYPE,
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ');

/** The content that an earlier pull has fetched, if it is still complete. */
async function knownTag(
  reference: string,
  tag: TagLookUp['tag'],
  { subject, store, known }: AttachedContext & { readonly subject: Digest },
): Promise<PulledTag | undefined> {
  const digest = known(reference);
  const bytes = digest && (await store.readSmall(digest));
  if (digest === undefined || bytes === undefined) return undefined;
  const kind = tag.endsWith('.att') ? 'att' : tag.endsWith('.sbom') ? 'sbom' : 'referrer';
  try {
    const listed = kind === 'referrer' ? parseReferrers(bytes, reference).map((one) => one.digest) : [digest];
    const attached: PulledAttached[] = [];
    for (const one of listed) {
      const own = await store.readSmall(one);
      if (own === undefined) return undefined;
      const { artifactType, blobs } = parseAttached(own, reference, { digest: subject, isNamed: kind === 'referrer' });
      for (const blob of blobs) if (!(await store.check(blob))) return undefined;
      attached.push({ kind, subject, digest: one, sizeBytes: own.length, artifactType });
    }
    return { tag, digest, sizeBytes: bytes.length, mediaType: kind === 'referrer' ? OCI_INDEX_TYPE : OCI_MANIFEST_TYPE, attached };
  } catch (error) {
    // Content that cannot be used is fetched again.
    if (error instanceof PrestageError) return undefined;
    throw error;
  }
}
