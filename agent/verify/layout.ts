import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type BundleFault, verifyFiles } from '../bundle/verify-files.ts';
import { readNamedLayout } from '../extract/named-layout.ts';
import { readOciLayout, withoutAttached } from '../extract/oci-layout.ts';
import type { BundleFile, BundleImage } from '../model/bundle.ts';
import { digestOfHex, hexOf } from '../model/digest.ts';
import { errorRecord, PrestageError } from '../model/errors.ts';
import { quoteInput } from '../model/faults.ts';
import { nameOf, type Reference } from '../model/reference.ts';
import { attachmentFaults } from './attachments.ts';
import { type BlobStore, blobError, reachFaults } from './blobs.ts';
import { type Checked, faultOf, joinChecked, type Part, type VerifyContext, within } from './context.ts';
import { verifyLists } from './lists.ts';

const BLOBS = 'blobs/sha256';
/** Path of a blob, relative to a layout. Source: OCI image-spec, image-layout.md. */
const BLOB_PATH = /^blobs\/sha256\/([^/]+)$/;

/**
 * Checks an OCI image layout: its index, and every image from its manifest to its blobs.
 * @param part `attached`: images whose attachments must be present, too
 * @param images the images in the manifest of the bundle; without a manifest, the images in the index count
 */
export async function verifyLayout(
  part: Part & { readonly attached?: readonly BundleImage[] },
  images: readonly BundleImage[] | undefined,
  context: VerifyContext,
): Promise<Checked> {
  const store: BlobStore = {
    directory: part.directory,
    pathOf: (digest) => within(part, `${BLOBS}/${hexOf(digest)}`),
    hasLayers: true,
    code: 'ERR_LAYOUT_BLOB',
  };
  const index = within(part, 'index.json');
  try {
    const directory = join(part.directory, part.path);
    if (images === undefined) {
      const found = await readNamedLayout(directory, context.architecture);
      const refused = found.refused.map(({ error }): BundleFault => ({ path: index, ...error }));
      const { others, ...lists } = await verifyLists(directory, store, found.images, context.architecture);
      const reached = { faults: await reachFaults(store, others, context.architecture), notices: [] };
      return joinChecked([{ faults: refused, notices: found.skipped }, lists, reached]);
    }
    const entries = await readOciLayout(directory);
    const named = new Set((await withoutAttached(directory, entries)).map((entry) => entry.digest));
    const unnamed = images.filter((image) => !named.has(image.manifestDigest));
    const wanted = images.map((image) => ({ reference: image.reference, digest: image.manifestDigest }));
    const byName = new Map(entries.map((entry) => [entry.reference, entry.digest]));
    const attachments = {
      blobs: store,
      tagged: async (repository: Reference, tag: string) => byName.get(`${nameOf(repository)}:${tag}`),
      pathOfTag: () => index,
    };
    return {
      faults: [
        ...unnamed.map((image): BundleFault => ({ path: index, ...errorRecord(unnamedFault(part, index, image)) })),
        ...(await reachFaults(store, wanted, context.architecture)),
        ...(await attachmentFaults(attachments, part.attached ?? [], context.architecture)),
      ],
      notices: [],
    };
  } catch (error) {
    return { faults: [faultOf(index, error)], notices: [] };
  }
}

/** Hashes all blobs of a layout that is not part of a bundle. Each must match the digest in its name. */
export async function hashLayout(part: Part, context: VerifyContext): Promise<Checked> {
  const files = await blobFiles(part);
  const faults = await verifyFiles(part.directory, files, { ...context, onProgress: context.onRead });
  const store = { code: 'ERR_LAYOUT_BLOB' } as const;
  return {
    faults: faults.map((fault) => ({
      path: fault.path,
      ...errorRecord(blobError(store, fault.message.replace('the manifest says', 'its name says'))),
    })),
    notices: [],
  };
}

/** Total size of all blobs of a layout, in bytes. */
export async function layoutBytes(part: Part): Promise<number> {
  return (await blobFiles(part)).reduce((total, file) => total + file.sizeBytes, 0);
}

/** Blobs whose name differs from their hash in the manifest of the bundle. Pure: the files themselves are hashed elsewhere. */
export function misnamedBlobs(files: readonly BundleFile[], path: string): readonly BundleFault[] {
  return files.flatMap((file): readonly BundleFault[] => {
    const hex = file.path.startsWith(`${path}/`) ? BLOB_PATH.exec(file.path.slice(path.length + 1))?.[1] : undefined;
    if (hex === undefined || hex === file.sha256) return [];
    const error = blobError({ code: 'ERR_LAYOUT_BLOB' }, `${quoteInput(file.path)} has the sha256 ${file.sha256}, which is not its name`);
    return [{ path: file.path, ...errorRecord(error) }];
  });
}

async function blobFiles(part: Part): Promise<readonly BundleFile[]> {
  const directory = join(part.directory, part.path, BLOBS);
  const names = await readdir(directory).catch(() => []);
  const hexes = names.filter((name) => digestOfHex(name) !== undefined).toSorted();
  return await Promise.all(
    hexes.map(async (hex) => ({
      path: within(part, `${BLOBS}/${hex}`),
      sizeBytes: await stat(join(directory, hex)).then(
        (found) => found.size,
        () => 0,
      ),
      sha256: hex,
    })),
  );
}

function unnamedFault(part: Part, index: string, image: BundleImage): PrestageError {
  return new PrestageError(
    'ERR_LAYOUT',
    `${join(part.directory, index)} lacks ${image.manifestDigest}, the manifest of ${image.reference}`,
    'Build the bundle again at the factory',
  );
}
