import type { Digest } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { nameOf, type Reference } from '../../model/reference.ts';
import { SIGSTORE_MARK } from '../../signatures/dir-form.ts';
import { type LookasideEntry, lookasidePath } from '../../signatures/lookaside.ts';
import { type RegistriesD, signatureSourceOf } from '../../signatures/registries-d.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import type { AbsentRecord } from './absent-record.ts';
import { createFinder, type Finder } from './finder.ts';
import type { LookasideServer } from './lookaside-server.ts';
import { storeNumbered } from './numbered-signatures.ts';

export interface LookasideContext {
  readonly server: LookasideServer;
  /** Base address for all images; by registries.d if left out. */
  readonly lookaside: string | undefined;
  readonly registriesD: RegistriesD;
  readonly store: BlobStore;
  readonly signal: AbortSignal;
  /** The signatures of a manifest in a repository that an earlier pull has fetched. */
  readonly known: (repository: string, subject: Digest) => LookasideEntry | undefined;
  readonly absent: AbsentRecord;
  /** Also asks for signatures that were absent at an earlier pull. */
  readonly asksAgain: boolean;
}

/**
 * Fetches the GPG signatures of an image's manifests. It throws ERR_PULL_*, ERR_FETCH_*, ERR_SIGNATURE or ERR_REGISTRIES_D if one is neither
 * available nor absent.
 */
export type LookasideFinder = Finder<LookasideEntry>;

export function createLookasideFinder(context: LookasideContext): LookasideFinder {
  return createFinder({
    keyOf: (repository, subject) => `${nameOf(repository)}@${subject}`,
    lookUp: async (repository, subject) => {
      const base = baseOf(repository, context);
      return base === undefined ? undefined : await entryOf({ base, repository, subject }, context);
    },
  });
}

/** Whether engines can read signatures below an address. Source: containers/image, docker/docker_image_src.go, getOneSignature. */
export function isLookaside(base: string): boolean {
  const url = URL.parse(base);
  if (url === null) return false;
  return url.protocol === 'file:' ? url.host === '' : /^https?:$/.test(url.protocol);
}

function baseOf(repository: Reference, { lookaside, registriesD }: LookasideContext): string | undefined {
  const base = lookaside ?? signatureSourceOf(registriesD, nameOf(repository)).lookaside;
  if (base === undefined) return undefined;
  if (isLookaside(base)) return base.replace(/\/+$/, '');
  throw new PrestageError(
    'ERR_REGISTRIES_D',
    `the lookaside "${base}" of ${nameOf(repository)} is not an address that begins with https://, http:// or file://`,
    'Correct the file in registries.d, or give --lookaside',
  );
}

interface Sought {
  readonly base: string;
  readonly repository: Reference;
  readonly subject: Digest;
}

async function entryOf({ base, repository, subject }: Sought, context: LookasideContext): Promise<LookasideEntry | undefined> {
  const { absent, asksAgain, known, store } = context;
  const name = nameOf(repository);
  const earlier = known(name, subject);
  const blobs = await Promise.all((earlier?.files ?? []).map(async (file) => await store.readSmall(file)));
  if (earlier !== undefined && !blobs.includes(undefined)) return earlier;
  const urlOf = (number: number): URL => new URL(`${base}/${lookasidePath(repository.repository, subject, number)}`);
  const first = urlOf(1).href;
  if (!asksAgain && absent.has(first)) return undefined;
  const files = await messagesAt(urlOf, `${name}@${subject}`, context);
  absent.set(first, files.length === 0);
  return files.length === 0 ? undefined : { repository: name, subject, files };
}

/** Engines count from 1 until a file is absent. Skips sigstore signatures, which come from the registry as attachments. */
async function messagesAt(
  urlOf: (number: number) => URL,
  image: string,
  { server, store, signal }: LookasideContext,
): Promise<readonly Digest[]> {
  return await storeNumbered(store, {
    get: async (number) => await server.get(urlOf(number), signal),
    skips: (bytes) => bytes.subarray(0, SIGSTORE_MARK.length).equals(Buffer.from(SIGSTORE_MARK)),
    what: { place: 'the lookaside', subject: image },
    remedy: 'Check the files of the lookaside, or give another --lookaside',
  });
}
