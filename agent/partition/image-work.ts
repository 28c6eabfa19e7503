import { type FileHandle, mkdir, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SealedBundle } from '../bundle/read-bundle.ts';
import { verifyFiles } from '../bundle/verify-files.ts';
import type { Host } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import type { Step } from '../host/steps.ts';
import { BUNDLE_FILE, type BundleFile } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults } from '../model/faults.ts';
import { hashPlaced, type PlacedFile } from './image-extents.ts';
import type { ImagePlan } from './plan-image.ts';
import type { WriteProgress } from './write.ts';

/** What the makers of images share. */
export interface ImageWork {
  /** Where the image comes into being: a name of its own beside the final one. */
  readonly path: string;
  readonly bundle: SealedBundle;
  readonly plan: ImagePlan;
  readonly label: string;
  readonly step: Step;
  readonly onProgress: (progress: WriteProgress) => void;
  readonly signal: AbortSignal;
}

/** A sparse file of zeros. */
export async function makeEmpty(path: string, sizeBytes: number): Promise<void> {
  await using file: FileHandle = await open(path, 'wx', 0o644);
  await file.truncate(sizeBytes);
}

/** A private directory beside the image, gone at the end; always of the same name, so that the next one takes away what a killed one left. */
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
 * Compares every byte of the bundle with its manifest before a program that knows neither puts them into an image.
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
    listFaults(`${work.bundle.directory} is not what ${BUNDLE_FILE} says`, messages),
    'Build the bundle again',
  );
}

/**
 * Compares every byte in the image, at the places that the image's own structures name, with the manifest.
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
    if (sha256 === undefined) faults.push(`${file.path} is missing in the image`);
    else if (sha256 !== file.sha256)
      faults.push(`${file.path} has the bytes of sha256 ${sha256} in the image, and the manifest says ${file.sha256}`);
  }
  if (faults.length === 0) return;
  throw new PrestageError(
    'ERR_PARTITION_WRITE',
    listFaults('the image is not what the bundle is', faults),
    'Make the image again; where it fails again, change the disk',
  );
}

function totalOf(files: readonly BundleFile[]): number {
  return files.reduce((total, file) => total + file.sizeBytes, 0);
}
