import { type FileHandle, mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SealedBundle } from '../bundle/read-bundle.ts';
import { verifyFiles } from '../bundle/verify-files.ts';
import type { Act } from '../host/acts.ts';
import type { Host } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { BUNDLE_FILE, type BundleFile } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults } from '../model/faults.ts';
import { hashPlaced, type PlacedFile } from './image-extents.ts';
import type { ImagePlan } from './plan-image.ts';
import type { WriteProgress } from './write.ts';

/** Input shared by all image formats. */
export interface ImageWork {
  /** Temporary path of the image, beside the final one. */
  readonly path: string;
  readonly bundle: SealedBundle;
  readonly plan: ImagePlan;
  readonly label: string;
  readonly act: Act;
  readonly onProgress: (progress: WriteProgress) => void;
  readonly signal: AbortSignal;
}

/** A sparse file of zeros. */
export async function makeEmpty(path: string, sizeBytes: number): Promise<void> {
  await using file: FileHandle = await open(path, 'wx', 0o644);
  await file.truncate(sizeBytes);
}

/** Makes a private directory beside the image and removes it at the end. Its name is fixed, so that the next command removes leftovers of a killed one. */
export async function workDirectory(path: string): Promise<AsyncDisposable & { readonly path: string }> {
  const directory = workPathOf(path);
  await removeTree(directory);
  await mkdir(directory, { mode: 0o700 });
  return { path: directory, [Symbol.asyncDispose]: async () => await removeTree(directory) };
}

export function workPathOf(path: string): string {
  return `${path}.work`;
}

/** The files of a bundle with the manifest, which does not list itself. */
export async function sealedFiles({ bundle }: Pick<ImageWork, 'bundle'>): Promise<readonly BundleFile[]> {
  const { size } = await stat(join(bundle.directory, BUNDLE_FILE));
  return [...bundle.bundle.files, { path: BUNDLE_FILE, sizeBytes: size, sha256: bundle.sha256 }];
}

/**
 * Compares every byte of the bundle with its manifest, because the programs that write images do not check it.
 * @throws PrestageError ERR_BUNDLE_FILE
 */
export async function checkBundle(host: Host, work: ImageWork, files: readonly BundleFile[]): Promise<void> {
  const faults = await verifyFiles(work.bundle.directory, files, {
    parallel: host.cores,
    mode: 'full',
    onProgress: (bytes) => work.onProgress({ phase: 'comparing', bytes, totalBytes: totalOf(files) }),
    signal: work.signal,
  });
  if (faults.length === 0) return;
  const messages = faults.map((fault) => fault.message);
  throw new PrestageError(
    'ERR_BUNDLE_FILE',
    listFaults(`${work.bundle.directory} does not match its ${BUNDLE_FILE}`, messages),
    'Build the bundle again',
  );
}

/**
 * Compares every byte of the files in the image with the manifest. The image's own structures say where the files are.
 * @throws PrestageError ERR_PARTITION_WRITE with every file that differs
 */
export async function readBackImage(work: ImageWork, files: readonly BundleFile[], placed: ReadonlyMap<string, PlacedFile>): Promise<void> {
  let bytes = 0;
  const onBytes = (added: number): void => {
    bytes += added;
    work.onProgress({ phase: 'reading back', bytes, totalBytes: totalOf(files) });
  };
  const faults: string[] = [];
  for (const file of files) {
    const found = placed.get(file.path);
    const sha256 = found === undefined ? undefined : await hashPlaced(work.path, found, { signal: work.signal, onBytes });
    if (sha256 === undefined) faults.push(`${file.path} is missing from the image`);
    else if (sha256 !== file.sha256)
      faults.push(`${file.path} has the sha256 ${sha256} in the image, but the manifest says ${file.sha256}`);
  }
  if (faults.length === 0) return;
  throw new PrestageError(
    'ERR_PARTITION_WRITE',
    listFaults('the image does not match the bundle', faults),
    'Make the image again; if it fails again, replace the disk',
  );
}

function totalOf(files: readonly BundleFile[]): number {
  return files.reduce((total, file) => total + file.sizeBytes, 0);
}
