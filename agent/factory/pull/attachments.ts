import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '../../host/exec.ts';
import { type Digest, digestOf, hexOf } from '../../model/digest.ts';
import { PrestageError } from '../../model/errors.ts';
import { nameOf, type Reference } from '../../model/reference.ts';
import { PAYLOAD_LIMIT_BYTES, parseAttachment, signatureTag } from '../../signatures/attachment.ts';
import type { BlobStore } from '../shared/blob-store.ts';
import { pullFailure } from '../shared/failures.ts';
import { copyFlags, type PullSource, sourceEnv } from '../web/source.ts';
import type { AbsentRecord } from './absent-record.ts';
import { createFinder, type Finder } from './finder.ts';

/** The signatures of one manifest that the registry has beside the image; their blobs are in the store. */
export interface PulledAttachment {
  /** Full reference, with the tag that names the manifest: its name in an OCI image layout. */
  readonly reference: string;
  /** The manifest that is signed. */
  readonly subject: Digest;
  /** Of the attachment's own manifest, with its size in bytes. */
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly signatures: number;
}

export interface AttachmentContext {
  readonly exec: Exec;
  readonly source: PullSource;
  /** Directory for temporary files; the caller empties it. */
  readonly scratch: string;
  readonly store: BlobStore;
  readonly signal: AbortSignal;
  /** The attachment that an earlier pull has fetched under a name. */
  readonly known: (reference: string) => Digest | undefined;
  readonly absent: AbsentRecord;
  /** Also asks for signatures that were absent at an earlier pull. */
  readonly asksAgain: boolean;
}

/** Fetches the signatures of an image's manifests. It throws ERR_PULL_* or ERR_SIGNATURE if one is neither available nor absent. */
export type AttachmentFinder = Finder<PulledAttachment>;

const LOOKUP_LIMIT_MS = 120_000;
/** How a registry reports a tag that it does not have. A missing login, a rate limit or a fault does not match. */
const ABSENT = /manifest unknown|name unknown|repository name not known|status ?(?:code)?(?: from registry)?:? 404/i;

export function createAttachmentFinder(context: AttachmentContext): AttachmentFinder {
  const referenceOf = (repository: Reference, subject: Digest): string => `${nameOf(repository)}:${signatureTag(subject)}`;
  return createFinder({
    keyOf: referenceOf,
    lookUp: async (repository, subject) => await attachmentOf(referenceOf(repository, subject), subject, context),
  });
}

async function attachmentOf(reference: string, subject: Digest, context: AttachmentContext): Promise<PulledAttachment | undefined> {
  const known = await knownAttachment(reference, subject, context);
  if (known !== undefined) return known;
  const { absent, asksAgain } = context;
  if (!asksAgain && absent.has(reference)) return undefined;
  const found = await fetchAttachment(reference, subject, context);
  absent.set(reference, found === undefined);
  return found;
}

/** The attachment that an earlier pull has fetched, if it is still complete. */
async function knownAttachment(
  reference: string,
  subject: Digest,
  { store, known }: AttachmentContext,
): Promise<PulledAttachment | undefined> {
  const digest = known(reference);
  const bytes = digest && (await store.readSmall(digest));
  if (digest === undefined || bytes === undefined) return undefined;
  const { config, signatures } = parseAttachment(bytes.toString('utf8'), reference);
  const blobs = await Promise.all([config, ...signatures].map(async (blob) => await store.readSmall(blob.digest)));
  if (blobs.includes(undefined)) return undefined;
  return { reference, subject, digest, sizeBytes: bytes.length, signatures: signatures.length };
}

/**
 * One skopeo per look-up, into `dir:`, since the manifest and its blobs are small. The policy of this machine does not apply to signatures:
 * it decides by them.
 */
async function fetchAttachment(reference: string, subject: Digest, context: AttachmentContext): Promise<PulledAttachment | undefined> {
  const { exec, source, scratch, store, signal } = context;
  const to = join(scratch, `signatures-${randomBytes(8).toString('hex')}`);
  const flags = ['--quiet', '--preserve-digests', '--remove-signatures', ...copyFlags(source)];
  const result = await exec('skopeo', ['--insecure-policy', 'copy', ...flags, `docker://${reference}`, `dir:${to}`], {
    signal,
    env: sourceEnv(source),
    timeoutMs: LOOKUP_LIMIT_MS,
  });
  if (result.exitCode !== 0) {
    const failure = pullFailure(reference, result);
    if (failure.code === 'ERR_PULL_MISSING' && ABSENT.test(result.stderr)) return undefined;
    throw failure;
  }
  const manifest = await readFile(join(to, 'manifest.json'));
  const { config, signatures } = parseAttachment(manifest.toString('utf8'), reference);
  for (const { digest } of [config, ...signatures]) {
    const bytes = await readFile(join(to, hexOf(digest)));
    if (bytes.length > PAYLOAD_LIMIT_BYTES || digestOf(bytes) !== digest) throw otherBytes(reference, digest);
    await store.writeSmall(digest, bytes);
  }
  const digest = digestOf(manifest);
  await store.writeSmall(digest, manifest);
  return { reference, subject, digest, sizeBytes: manifest.length, signatures: signatures.length };
}

function otherBytes(reference: string, digest: Digest): PrestageError {
  return new PrestageError(
    'ERR_PULL_DIGEST',
    `${reference}: the registry sent data that does not match ${digest}`,
    'Check for a proxy that changes data on its way from the registry, then pull again',
  );
}
