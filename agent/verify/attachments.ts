import { join } from 'node:path';
import type { BundleFault } from '../bundle/verify-files.ts';
import { readPlainFile } from '../host/plain-file.ts';
import { attachedTag, parseReferrers, referrersTag } from '../model/attached.ts';
import type { BundleImage } from '../model/bundle.ts';
import { type Digest, digestOf } from '../model/digest.ts';
import { errorRecord, messageOf, PrestageError } from '../model/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../model/manifest.ts';
import { nameOf, type Reference, readReference } from '../model/reference.ts';
import { type BlobStore, reachFaults } from './blobs.ts';

/** A payload with attachments, stored under the tags that clients look for. */
export interface AttachmentStore {
  readonly blobs: BlobStore;
  /** The digest that a tag of a repository leads to; undefined if the tag does not exist. */
  readonly tagged: (repository: Reference, tag: string) => Promise<Digest | undefined>;
  /** The file that holds the tag, or the index that holds all tags. */
  readonly pathOfTag: (repository: Reference, tag: string) => string;
}

type Attachment = NonNullable<BundleImage['attachments']>[number];

/**
 * Checks the attachments of images: the tag of each leads to it in every repository of its image, and its manifest and blobs are present, as with
 * images.
 */
export async function attachmentFaults(
  store: AttachmentStore,
  images: readonly BundleImage[],
  architecture: string,
): Promise<readonly BundleFault[]> {
  const faults: BundleFault[] = [];
  for (const { names, attachments = [] } of images) {
    const references = names.map(readReference).filter((one) => typeof one !== 'string');
    const repositories = [...new Map(references.map((one) => [nameOf(one), one])).values()];
    for (const attachment of attachments) {
      const tag = tagOf(attachment);
      for (const repository of repositories) {
        // If an image of the bundle has this tag itself, the tag stays with it.
        if (names.includes(`${nameOf(repository)}:${tag}`)) continue;
        const fault = await tagFault(store, { attachment, repository, tag });
        if (fault !== undefined) faults.push({ path: store.pathOfTag(repository, tag), ...errorRecord(fault) });
      }
    }
  }
  const wanted = images.flatMap(({ reference, attachments = [] }) =>
    attachments.map(({ kind, manifest }) => ({
      reference: `${reference} (${kind} ${manifest})`,
      digest: manifest,
      isAttached: true as const,
    })),
  );
  return [...faults, ...(await reachFaults(store.blobs, wanted, architecture))];
}

function tagOf({ kind, subject }: Attachment): string {
  return kind === 'referrer' ? referrersTag(subject) : attachedTag(subject, kind);
}

interface Tagged {
  readonly attachment: Attachment;
  readonly repository: Reference;
  readonly tag: string;
}

async function tagFault({ blobs, tagged }: AttachmentStore, { attachment, repository, tag }: Tagged): Promise<PrestageError | undefined> {
  const { kind, manifest } = attachment;
  const name = `${nameOf(repository)}:${tag}`;
  const found = await tagged(repository, tag);
  if (found === undefined) return wrong(`${name} is missing; it should lead to the attachment ${manifest}`);
  if (kind !== 'referrer') return found === manifest ? undefined : wrong(`${name} leads to ${found}, not to the attachment ${manifest}`);
  const path = join(blobs.directory, blobs.pathOf(found));
  const bytes = await readPlainFile(path, MANIFEST_LIMIT_BYTES);
  if (bytes === undefined || digestOf(bytes) !== found)
    return wrong(`${path}, the list of referrers ${name}, is missing or does not match its digest`);
  try {
    const listed = parseReferrers(bytes, name);
    return listed.some(({ digest }) => digest === manifest) ? undefined : wrong(`the list of referrers ${name} does not name ${manifest}`);
  } catch (error) {
    return wrong(messageOf(error));
  }
}

function wrong(message: string): PrestageError {
  return new PrestageError('ERR_BUNDLE_FILE', message, 'Build the bundle again at the factory');
}
