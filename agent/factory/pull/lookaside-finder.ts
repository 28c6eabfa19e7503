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
  /** The base for all images; that of registries.d where left out. */
  readonly lookaside: string | undefined;
  readonly registriesD: RegistriesD;
  readonly store: BlobStore;
  readonly signal: AbortSignal;
  /** What an earlier pull has brought of a manifest in a repository. */
  readonly known: (repository: string, subject: Digest) => LookasideEntry | undefined;
  readonly absent: AbsentRecord;
  /** What was absent at an earlier pull is asked for again. */
  readonly asksAgain: boolean;
}

/**
 * Brings the GPG signatures of all manifests of an image into the store. It throws ERR_PULL_*, ERR_FETCH_*, ERR_SIGNATURE or ERR_REGISTRIES_D for
 * whatever is neither there nor absent.
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

/** Whether engines could read signatures below an address. Source: containers/image, docker/docker_image_src.go, getOneSignature. */
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
    `the lookaside of ${nameOf(repository)}, "${base}", is not an address that begins with https://, http:// or file://`,
    'Correct the file of registries.d, or give --lookaside',
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

/** Engines count from 1 until a file is absent. A lookaside can have sigstore signatures as well; those come from the registry, as attachments. */
async function messagesAt(
  urlOf: (number: number) => URL,
  image: string,
  { server, store, signal }: LookasideContext,
): Promise<readonly Digest[]> {
  return await storeNumbered(store, {
    get: async (number) => await server.get(urlOf(number), signal),
    skips: (bytes) => bytes.subarray(0, SIGSTORE_MARK.length).equals(Buffer.from(SIGSTORE_MARK)),
    what: { place: 'the lookaside', subject: image },
    remedy: 'Look at what the lookaside has there, or give another --lookaside',
  });
}
