import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as v from 'valibot';
import type { Act } from '../../host/acts.ts';
import { writeAtomic } from '../../host/atomic.ts';
import { ifMissing } from '../../host/files.ts';
import type { Host } from '../../host/host.ts';
import { withRetries } from '../../host/retry.ts';
import { type Digest, hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { nameOf } from '../../model/reference.ts';
import { formatLookasideRecord, type LookasideEntry, RELEASE_SIGNATURES_FILE } from '../../signatures/lookaside.ts';
import { type BlobStore, targetError } from '../shared/blob-store.ts';
import { readLookasideRecord } from '../shared/lookaside-record.ts';
import type { LookasideServer } from './lookaside-server.ts';
import { storeNumbered } from './numbered-signatures.ts';
import type { ResolvedImage } from './resolve.ts';

export interface ReleaseSignatureContext {
  readonly host: Host;
  /** Address or folder of a store of release signatures. */
  readonly from: string;
  /** The OCI image layout. */
  readonly to: string;
  readonly server: LookasideServer;
  readonly store: BlobStore;
  /** Attempts after the first. */
  readonly retries: number;
  readonly act: Act;
  readonly signal: AbortSignal;
}

/** Repositories of release images at Red Hat, and of copies with the same name. */
const RELEASE_REPOSITORY = /(?:^|\/)ocp-release(?:-nightly)?$/;
/** Label of a release image; no other image of a release has it. Source: openshift/oc, pkg/cli/admin/release/new.go. */
const RELEASE_LABEL = 'io.openshift.release';
const configSchema = v.object({ config: v.object({ Labels: v.object({ [RELEASE_LABEL]: v.pipe(v.string(), v.nonEmpty()) }) }) });

/**
 * Fetches the signatures by which a cluster accepts a release as an upgrade. They are not signatures of images: the cluster-version operator
 * checks them, not an engine. Signatures of an earlier pull are not fetched again.
 * Source: openshift/library-go, pkg/verify/store/sigstore.
 * @param images images whose blobs are all in the store; those that are not releases are skipped
 * @throws PrestageError ERR_USAGE, ERR_PULL_*, ERR_FETCH_*, ERR_SIGNATURE if a signature is neither available nor absent
 */
export async function pullReleaseSignatures(images: readonly ResolvedImage[], context: ReleaseSignatureContext): Promise<void> {
  const { host, to, store, act } = context;
  const base = await baseOf(context.from);
  const earlier = await readLookasideRecord(to, RELEASE_SIGNATURES_FILE);
  const entries = new Map(earlier.map((entry) => [entry.subject, entry]));
  let releases = 0;
  for (const image of images) {
    if (!(await isRelease(image, store))) continue;
    releases++;
    const repository = nameOf(image.listed.reference);
    const found: LookasideEntry[] = [];
    for (const { digest: subject } of image.manifests) {
      const files = (await keptFiles(entries.get(subject), store)) ?? (await filesAt(base, subject, context));
      if (files.length > 0) found.push({ repository, subject, files });
    }
    if (found.length === 0) host.log('warning', `${context.from} has no signature of the release ${image.reference}`);
    for (const entry of found) entries.set(entry.subject, entry);
  }
  if (releases === 0) host.log('warning', 'the lists contain no release image, so no release signatures were fetched');
  if (entries.size === 0) return;
  await act('write-index', async () => {
    await store.sync();
    await writeAtomic(join(to, RELEASE_SIGNATURES_FILE), formatLookasideRecord([...entries.values()]));
  }).catch((error: unknown) => {
    throw targetError(error);
  });
}

/** The place of the signatures as an address without a slash at its end. */
async function baseOf(from: string): Promise<string> {
  const { protocol } = URL.parse(from) ?? {};
  if (protocol === 'https:' || protocol === 'http:') return from.replace(/\/+$/, '');
  const found = await stat(from).catch(ifMissing(() => undefined));
  if (found?.isDirectory()) return pathToFileURL(resolve(from)).href;
  throw new PrestageError(
    'ERR_USAGE',
    `--release-signatures ${from} is neither a folder nor an address`,
    'Give a folder, or an address that begins with https:// or http://',
  );
}

async function isRelease({ listed, manifests }: ResolvedImage, store: BlobStore): Promise<boolean> {
  if (RELEASE_REPOSITORY.test(listed.reference.repository)) return true;
  for (const { manifest } of manifests) {
    if (manifest.kind !== 'image') continue;
    const config = await store.readSmall(manifest.config.digest);
    if (config !== undefined && v.is(v.pipe(v.string(), v.parseJson(), configSchema), config.toString('utf8'))) return true;
  }
  return false;
}

async function keptFiles(entry: LookasideEntry | undefined, store: BlobStore): Promise<readonly Digest[] | undefined> {
  const blobs = await Promise.all((entry?.files ?? []).map(async (file) => await store.readSmall(file)));
  return entry === undefined || blobs.includes(undefined) ? undefined : entry.files;
}

/** The signatures of a release: numbered from 1, and the first absent file ends them. */
async function filesAt(
  base: string,
  subject: Digest,
  { server, store, signal, retries, host }: ReleaseSignatureContext,
): Promise<readonly Digest[]> {
  const get = async (number: number): Promise<Buffer | undefined> => {
    const url = new URL(`${base}/sha256=${hexOf(subject)}/signature-${number}`);
    return await withRetries(
      {
        clock: host.clock,
        retries,
        signal,
        isRetryable: (error) => error instanceof PrestageError && error.code.startsWith('ERR_PULL'),
        onRetry: (error, pauseMs) => host.log('notice', `${url.href}: ${String(error)}; retrying in ${pauseMs / 1000} s`),
      },
      async () => await server.get(url, signal),
    ).catch((error: unknown) => {
      throw ofThisOption(error);
    });
  };
  const what = { place: base, subject: `the release ${subject}` };
  return await storeNumbered(store, { get, what, remedy: 'Give another --release-signatures' });
}

function ofThisOption(error: unknown): unknown {
  if (!(error instanceof PrestageError)) return error;
  return new PrestageError(error.code, error.message, 'Pull again later (pulled blobs are kept), or give another --release-signatures', {
    cause: error,
  });
}
