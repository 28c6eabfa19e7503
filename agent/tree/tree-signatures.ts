import { join } from 'node:path';
import pLimit from 'p-limit';
import { readText } from '../extract/archives.ts';
import { readPlainFile } from '../host/plain-file.ts';
import { type Digest, digestOf, isDigest } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import { instanceFor, MANIFEST_LIMIT_BYTES, parseManifest } from '../model/manifest.ts';
import { parseReference } from '../model/reference.ts';
import { registryRepository, treeBlobPath, treeRepositoryPath } from '../model/registry-path.ts';
import { PAYLOAD_LIMIT_BYTES, parseAttachment, SIGNATURES_LIMIT, signatureTag } from '../signatures/attachment.ts';
import { heldOf } from '../signatures/bundle-signatures.ts';
import type { HeldSignature } from '../signatures/judge.ts';
import { lookasidePath } from '../signatures/lookaside.ts';
import type { ShownImage } from '../signatures/unshown.ts';
import { LINK_LIMIT_BYTES } from './oc-mirror-member.ts';

/** An image that a tree serves. */
export interface AnsweredImage {
  /** Full references at its sources. */
  readonly names: readonly string[];
  /** Digest of the manifest or list. */
  readonly digest: Digest;
  /** Its repository in the tree, if that does not follow from its names. */
  readonly repository?: string;
}

/** Where engines find images and signatures. */
export interface ShownPlaces {
  /** The directory that holds `docker/`. */
  readonly root: string;
  /** The directory of the lookaside; undefined if there is none, or engines do not look there. */
  readonly lookaside: string | undefined;
}

/** Number of images processed at one time. */
const PARALLEL = 16;

/**
 * Finds what a registry that serves a tree presents to engines: for each image the manifest that engines verify, and its signatures. Every file is
 * compared with its digest. Unreadable files count as missing, because the registry does not serve them either.
 * @param architecture GOARCH name that selects the image of a manifest list
 */
export async function shownImages(
  { root, lookaside }: ShownPlaces,
  images: readonly AnsweredImage[],
  architecture: string,
): Promise<readonly ShownImage[]> {
  const limit = pLimit(PARALLEL);
  return await Promise.all(
    images.map(({ names, digest: top, repository: own }) =>
      limit(async (): Promise<ShownImage> => {
        const digest = await verifiedDigest(root, top, architecture);
        const repositories = own === undefined ? [...new Set(names.map((name) => registryRepository(parseReference(name))))] : [own];
        const held = await Promise.all(repositories.map(async (repository) => await heldIn({ root, lookaside }, repository, digest)));
        // A signature counts only if every repository of the image has it, since engines may use any of its names.
        const [fewest = []] = held.toSorted((a, b) => a.length - b.length);
        return { names, digest, signatures: fewest };
      }),
    ),
  );
}

/** Engines verify the image of their platform, not the list that names it. */
async function verifiedDigest(root: string, top: Digest, architecture: string): Promise<Digest> {
  const bytes = await readBlob(root, top, MANIFEST_LIMIT_BYTES);
  if (bytes === undefined) return top;
  try {
    const manifest = parseManifest(bytes, top);
    return manifest.kind === 'index' ? (instanceFor(manifest, architecture)?.digest ?? top) : top;
  } catch (error) {
    if (error instanceof PrestageError) return top;
    throw error;
  }
}

async function heldIn({ root, lookaside }: ShownPlaces, repository: string, subject: Digest): Promise<readonly HeldSignature[]> {
  const messages = lookaside === undefined ? [] : await messagesIn(lookaside, repository, subject);
  return [...(await signaturesIn(root, repository, subject)), ...messages];
}

async function signaturesIn(root: string, repository: string, subject: Digest): Promise<readonly HeldSignature[]> {
  const link = join(root, treeRepositoryPath(repository), '_manifests/tags', signatureTag(subject), 'current/link');
  const digest = await readText(link, LINK_LIMIT_BYTES).then(
    (text) => text.trim(),
    () => '',
  );
  const bytes = isDigest(digest) ? await readBlob(root, digest, MANIFEST_LIMIT_BYTES) : undefined;
  if (bytes === undefined) return [];
  try {
    const attachment = parseAttachment(bytes.toString('utf8'), `${repository}@${subject}`);
    const blobs = await Promise.all(
      attachment.signatures.map(async (one) => [one.digest, await readBlob(root, one.digest, PAYLOAD_LIMIT_BYTES)] as const),
    );
    return heldOf(attachment, new Map(blobs.flatMap(([name, payload]) => (payload === undefined ? [] : [[name, payload] as const]))));
  } catch (error) {
    if (error instanceof PrestageError) return [];
    throw error;
  }
}

/** The GPG signatures in a directory. Engines count from 1 until one is absent. Source: containers/image, docker/docker_image_src.go, getSignaturesFromLookaside. */
export async function messagesIn(lookaside: string, repository: string, subject: Digest): Promise<readonly HeldSignature[]> {
  const held: HeldSignature[] = [];
  while (held.length < SIGNATURES_LIMIT) {
    const path = join(lookaside, lookasidePath(repository, subject, held.length + 1));
    const message = await readPlainFile(path, PAYLOAD_LIMIT_BYTES);
    if (message === undefined) break;
    held.push({ kind: 'gpg', message });
  }
  return held;
}

async function readBlob(root: string, digest: Digest, limitBytes: number): Promise<Buffer | undefined> {
  const bytes = await readPlainFile(join(root, treeBlobPath(digest)), limitBytes);
  return bytes !== undefined && digestOf(bytes) === digest ? bytes : undefined;
}
