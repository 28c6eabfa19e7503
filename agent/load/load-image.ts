import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchivedImage } from '../extract/archives.ts';
import { layoutBlobPath, layoutImage, linkDirLayout } from '../extract/oci-layout.ts';
import type { LayoutImage, SourceImage, SourceSignatures } from '../extract/payload.ts';
import type { ArchivePool } from '../extract/pool.ts';
import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { makeEmptyDirectory, removeTree } from '../host/remove-tree.ts';
import { type Digest, digestOf, hexOf } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import type { Descriptor } from '../model/manifest.ts';
import { notImageError } from '../model/manifest-content.ts';
import { readSignatureFile } from '../signatures/bundle-signatures.ts';
import { writeDirSignatures } from '../signatures/dir-form.ts';
import { storedSignatures } from '../signatures/stored.ts';
import type { OnRunEvent } from '../state/progress.ts';
import { isPresent } from '../storage/is-present.ts';
import type { Loader } from '../storage/loader.ts';
import type { StorageLocation, StoredImage } from '../storage/records.ts';
import type { StoredLayers } from '../storage/stored-layers.ts';
import type { LoadStep } from './plan.ts';

export interface LoadContext {
  readonly host: Host;
  readonly act: Act;
  readonly pool: ArchivePool;
  readonly loader: Loader;
  readonly location: StorageLocation;
  readonly stored: StoredLayers;
  /** The image records as they are after the call. */
  readonly readImages: () => Promise<readonly StoredImage[]>;
  /** Empty directory for blobs that are being loaded. */
  readonly scratch: string;
  /** The images of the payload by their references. */
  readonly sources: ReadonlyMap<string, SourceImage>;
  /** Once it has fired, no image is started; images in progress are finished. */
  readonly stop: AbortSignal;
  readonly onEvent: OnRunEvent;
  /** Runs the copy of an image when those that it waits for are settled and a place is free. */
  readonly whenCopyable: (step: LoadStep, copy: () => Promise<void>) => Promise<void>;
}

/**
 * Loads one image under all its names, by way of a `dir:` layout in scratch: an archive is unpacked there, the blobs of an OCI layout are only
 * linked. This is done ahead, while images that bring shared layers are still being copied.
 * @throws PrestageError ERR_LOAD, ERR_ARCHIVE_*, ERR_LAYOUT_BLOB, or the stop signal's reason
 */
export async function loadImage(step: LoadStep, context: LoadContext): Promise<void> {
  const source = context.sources.get(step.image.reference);
  if (source === undefined) throw new Error(`${step.image.reference} has no source`);
  const directory = join(context.scratch, hexOf(digestOf(source.reference)));
  try {
    const written = await context.act('unpack-image', async () => await prepare(step, source, directory, context));
    await context.whenCopyable(step, async () => {
      if (await lacksLayers(step, written, context)) await prepare({ ...step, writes: step.image.layers }, source, directory, context);
      await copyNames(step, `dir:${directory}`, context).catch(async (error: unknown) => {
        throw (source.kind === 'layout' ? await damagedBlob(source, context) : undefined) ?? error;
      });
    });
  } finally {
    await context.act('remove-image-scratch', async () => await removeTree(directory));
  }
  await assertPresent(step, context);
  context.stored.add(step.image.layers);
}

/** Lays out the files for skopeo to copy. @returns the layers among them */
async function prepare(step: LoadStep, source: SourceImage, directory: string, context: LoadContext): Promise<ReadonlySet<Digest>> {
  await makeEmptyDirectory(directory);
  const written = await layOut(step, source, directory, context);
  if (source.signed !== undefined) await addSignatures(source.signed, directory, context);
  return written;
}

async function layOut(step: LoadStep, source: SourceImage, directory: string, context: LoadContext): Promise<ReadonlySet<Digest>> {
  if (source.kind === 'archive') return await unpack(step, source, directory, context);
  await linkDirLayout(source.layout, source.digest, directory);
  return new Set(step.image.layers.map((layer) => layer.digest));
}

/** If a signature is damaged, the image is loaded without its signatures: engines whose policy demands one then refuse it. */
async function addSignatures({ bundle, image }: SourceSignatures, directory: string, { host }: LoadContext): Promise<void> {
  try {
    const top = digestOf(await readFile(join(directory, 'manifest.json')));
    await writeDirSignatures(directory, top, await storedSignatures(image, async (digest) => await readSignatureFile(bundle, digest)));
  } catch (error) {
    if (!(error instanceof PrestageError)) throw error;
    host.log('warning', `${image.reference} is loaded without its signatures: ${error.message}`);
  }
}

/** Whether a layer is missing because the image that should have brought it has failed. */
async function lacksLayers({ image }: LoadStep, written: ReadonlySet<Digest>, context: LoadContext): Promise<boolean> {
  const isLacking = ({ digest }: Descriptor): boolean => !written.has(digest) && !context.stored.has(digest);
  if (!image.layers.some(isLacking)) return false;
  await context.stored.refresh();
  return image.layers.some(isLacking);
}

async function copyNames({ image }: LoadStep, source: string, context: LoadContext): Promise<void> {
  context.onEvent({ kind: 'image-copying', reference: image.reference });
  for (const [index, name] of image.names.entries()) {
    await context.act(index === 0 ? 'load-image' : 'load-extra-name', async () => await context.loader.load(source, name));
  }
}

/** The error for a damaged blob, if that is why skopeo failed: trying again would not help. Blobs of archives have been checked already. */
async function damagedBlob({ layout, digest }: LayoutImage, { pool, host, stop }: LoadContext): Promise<PrestageError | undefined> {
  const { image } = await layoutImage(layout, digest, host.architecture);
  for (const blob of [image.config, ...image.layers]) {
    const path = layoutBlobPath(layout, blob.digest);
    const { sha256 } = await pool.hash({ path }, { signal: stop });
    if (sha256 !== hexOf(blob.digest))
      return new PrestageError('ERR_LAYOUT_BLOB', `${path} has the digest sha256:${sha256}`, 'Write the bundle to the partition again');
  }
  return undefined;
}

async function unpack(step: LoadStep, archived: ArchivedImage, directory: string, context: LoadContext): Promise<ReadonlySet<Digest>> {
  const { reference } = step.image;
  const written = new Set(step.writes.map((layer) => layer.digest).filter((digest) => !context.stored.has(digest)));
  const unpacked = await context.pool.unpack(
    {
      path: archived.archive.path,
      name: archived.archive.name,
      architecture: context.host.architecture,
      writeBlobs: [...written],
      layers: step.image.layers,
      to: directory,
    },
    { signal: context.stop, onProgress: (bytesRead) => context.onEvent({ kind: 'image-read', reference, bytesRead }) },
  );
  if (unpacked.notImage !== undefined) throw notImageError(archived.archive.path, unpacked.notImage);
  if (step.image.digests.includes(unpacked.topDigest)) return written;
  throw new PrestageError(
    'ERR_ARCHIVE_REFERENCE',
    `${archived.archive.path} now holds ${unpacked.topDigest}, but held ${step.image.digests.join(' or ')} before`,
    'Find out what changes the partition, then start the run again',
  );
}

/** Trusts the storage's records, not the exit code. */
async function assertPresent(step: LoadStep, { location, readImages }: LoadContext): Promise<void> {
  if (isPresent(step.image, { images: await readImages() })) return;
  throw new PrestageError(
    'ERR_LOAD',
    `${location.graphroot} does not list ${step.image.names.join(' and ')} with ${step.image.digests.join(' or ')}, although skopeo succeeded`,
    'Check that no other program removes images while they are loaded, then start the run again',
  );
}
