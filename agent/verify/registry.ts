import { join } from 'node:path';
import type { BundleFault } from '../bundle/verify-files.ts';
import { readText } from '../extract/archives.ts';
import type { BundleFile, BundleImage } from '../model/bundle.ts';
import { type Digest, hexOf, isDigest } from '../model/digest.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { quoteInput } from '../model/faults.ts';
import { parseReference, type Reference } from '../model/reference.ts';
import { registryRepository, treeBlobPath, treeRepositoryPath } from '../model/registry-path.ts';
import { attachmentFaults } from './attachments.ts';
import { blobError, reachFaults } from './blobs.ts';
import { type Checked, faultOf, type Part, type VerifyContext, within } from './context.ts';

const LINK_LIMIT_BYTES = 1024;
const BLOB_PATH = /\/blobs\/sha256\/([0-9a-f]{2})\/([^/]+)\/data$/;

/**
 * Checks a registry tree of distribution: that every name of every image leads to its manifest, by digest and by tag, and on to its blobs.
 * Source: github.com/distribution/distribution, registry/storage/paths.go.
 * @param part `attached`: images whose attachments must be present, too
 * @param content `metadata`: only manifests and configs are expected
 */
export async function verifyRegistry(
  part: Part & { readonly attached?: readonly BundleImage[] },
  images: readonly BundleImage[],
  content: 'all' | 'metadata',
  context: VerifyContext,
): Promise<Checked> {
  const store = {
    directory: part.directory,
    pathOf: (digest: Digest) => within(part, treeBlobPath(digest)),
    hasLayers: content === 'all',
    code: 'ERR_BUNDLE_FILE',
  } as const;
  const links = await Promise.all(images.flatMap((image) => image.names.map(async (name) => await linkFaults(part, image, name))));
  const wanted = images.map((image) => ({ reference: image.reference, digest: image.manifestDigest }));
  const faults = [...links.flat(), ...(await reachFaults(store, wanted, context.architecture))];
  if (part.attached === undefined) return { faults, notices: [] };
  const pathOfTag = (repository: Reference, tag: string): string =>
    within(part, `${treeRepositoryPath(registryRepository(repository))}/_manifests/tags/${tag}/current/link`);
  const tagged = async (repository: Reference, tag: string): Promise<Digest | undefined> => {
    const text = (await readText(join(part.directory, pathOfTag(repository, tag)), LINK_LIMIT_BYTES).catch(() => '')).trim();
    return isDigest(text) ? text : undefined;
  };
  return {
    faults: [...faults, ...(await attachmentFaults({ blobs: store, tagged, pathOfTag }, part.attached, context.architecture))],
    notices: [],
  };
}

/** Checks that a tree completely contains the image that is to serve it. That image need not belong to a stage. */
export async function verifyRegistryImage(part: Part, name: string, context: VerifyContext): Promise<Checked> {
  const place = placeOf(name);
  if (place instanceof PrestageError) return { faults: [{ path: part.path, ...errorRecord(place) }], notices: [] };
  const manifests = within(part, `${treeRepositoryPath(place.repository)}/_manifests`);
  const link = `${manifests}/tags/${place.tag ?? 'latest'}/current/link`;
  const digest = place.digest ?? (await readText(join(part.directory, link), LINK_LIMIT_BYTES).catch(() => '')).trim();
  if (isDigest(digest)) {
    const image = { reference: name, names: [name], manifestDigest: digest, compressedBytes: 0, unpackedBytes: 0 };
    return await verifyRegistry(part, [image], 'all', context);
  }
  const error = new PrestageError(
    'ERR_BUNDLE_FILE',
    `the registry image ${name} is not in ${part.path}: ${join(part.directory, link)} does not lead to a manifest`,
    'Build the bundle again at the factory',
  );
  return { faults: [{ path: link, ...errorRecord(error) }], notices: [] };
}

/** Blobs whose path does not fit their hash in the manifest of the bundle. Pure. */
export function misplacedBlobs(files: readonly BundleFile[], path: string): readonly BundleFault[] {
  return files.flatMap((file): readonly BundleFault[] => {
    const [, start, hex] = (file.path.startsWith(`${path}/`) && BLOB_PATH.exec(file.path)) || [];
    if (hex === undefined || (hex === file.sha256 && hex.slice(0, 2) === start)) return [];
    const error = blobError(
      { code: 'ERR_BUNDLE_FILE' },
      `${quoteInput(file.path)} has the sha256 ${file.sha256}, which does not fit its path`,
    );
    return [{ path: file.path, ...errorRecord(error) }];
  });
}

/** Checks the links that a name needs: one from its repository to the manifest, and one from its tag. */
async function linkFaults(part: Part, image: BundleImage, name: string): Promise<readonly BundleFault[]> {
  const place = placeOf(name);
  if (place instanceof PrestageError) return [{ path: part.path, ...errorRecord(place) }];
  const manifests = within(part, `${treeRepositoryPath(place.repository)}/_manifests`);
  const links = [
    `${manifests}/revisions/sha256/${hexOf(image.manifestDigest)}/link`,
    ...(place.tag === undefined ? [] : [`${manifests}/tags/${place.tag}/current/link`]),
  ];
  const faults = await Promise.all(
    links.map(async (path): Promise<readonly BundleFault[]> => {
      const file = join(part.directory, path);
      try {
        const text = (await readText(file, LINK_LIMIT_BYTES)).trim();
        if (text === image.manifestDigest) return [];
        throw new PrestageError(
          'ERR_BUNDLE_FILE',
          `${file} leads ${name} to ${quoteInput(text)}, not to ${image.manifestDigest}`,
          'Build the bundle again at the factory',
        );
      } catch (error) {
        return [faultOf(path, error)];
      }
    }),
  );
  return faults.flat();
}

interface Place {
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

function placeOf(name: string): Place | PrestageError {
  try {
    const reference = parseReference(name);
    return { repository: registryRepository(reference), tag: reference.tag, digest: reference.digest };
  } catch (error) {
    if (error instanceof PrestageError) return error;
    throw error;
  }
}
