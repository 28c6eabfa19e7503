import { join } from 'node:path';
import { readText } from '../extract/archives.ts';
import { readPlainFile } from '../host/plain-file.ts';
import { attachedTag, besideImage, hasSubject, parseReferrers, referrersTag, TAGGED_KINDS } from '../model/attached.ts';
import { type Digest, digestOf, isDigest } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { MANIFEST_LIMIT_BYTES } from '../model/manifest.ts';
import { treeBlobPath, treeRepositoryPath } from '../model/registry-path.ts';
import { signatureTag } from '../signatures/attachment.ts';
import { LINK_LIMIT_BYTES } from './oc-mirror-member.ts';

/** What belongs to an image in a repository of a tree: signatures, attestations, SBOMs, referrers. */
export interface BesideImage {
  readonly tags: readonly string[];
  /** The manifests that the tags lead to, and the referrers in a list. */
  readonly manifests: readonly Digest[];
}

/** Finds what belongs to a manifest in a repository. Only files that match their digest count. */
export async function besideInTree(root: string, repository: string, subject: Digest): Promise<BesideImage> {
  const candidates = [signatureTag(subject), ...TAGGED_KINDS.map((kind) => attachedTag(subject, kind)), referrersTag(subject)];
  const found = await Promise.all(
    candidates.map(async (tag): Promise<readonly BesideImage[]> => {
      const link = join(root, treeRepositoryPath(repository), '_manifests/tags', tag, 'current/link');
      const digest = await readTreeLink(link);
      const manifests = digest === undefined ? undefined : await besideBelow(root, tag, digest);
      return manifests === undefined ? [] : [{ tags: [tag], manifests }];
    }),
  );
  const all = found.flat();
  return { tags: all.flatMap((one) => one.tags), manifests: all.flatMap((one) => one.manifests) };
}

/**
 * The manifests that a tag of an attachment or signature leads to; undefined if the tag leads to an image. For a list of referrers, these include the
 * referrers. An existing manifest that names no subject is an image and not included, whatever the list says.
 */
export async function besideBelow(root: string, tag: string, digest: Digest): Promise<readonly Digest[] | undefined> {
  const beside = besideImage(tag, digest);
  if (beside?.kind !== 'list') return beside && [digest];
  const bytes = await readManifestBytes(root, digest);
  if (bytes === undefined) return undefined;
  try {
    const referrers = parseReferrers(bytes, tag).map((one) => one.digest);
    const areImages = await Promise.all(
      referrers.map(async (one) => {
        const own = await readManifestBytes(root, one);
        return own !== undefined && !hasSubject(own);
      }),
    );
    return [digest, ...referrers.filter((_, index) => areImages[index] !== true)];
  } catch (error) {
    if (error instanceof PrestageError) return undefined;
    throw error;
  }
}

/** The digest in a link of a tree; undefined if there is no valid link. */
export async function readTreeLink(path: string): Promise<Digest | undefined> {
  const text = await readText(path, LINK_LIMIT_BYTES).then(
    (content) => content.trim(),
    () => '',
  );
  return isDigest(text) ? text : undefined;
}

async function readManifestBytes(root: string, digest: Digest): Promise<Buffer | undefined> {
  const bytes = await readPlainFile(join(root, treeBlobPath(digest)), MANIFEST_LIMIT_BYTES);
  return bytes !== undefined && digestOf(bytes) === digest ? bytes : undefined;
}
