import { type FileHandle, link, lstat, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { readBundle, type SealedBundle } from '../bundle/read-bundle.ts';
import type { Act } from '../host/acts.ts';
import { syncDirectory } from '../host/atomic.ts';
import { checkWorkplace } from '../host/chain.ts';
import type { Host } from '../host/host.ts';
import { removeTree } from '../host/remove-tree.ts';
import { spaceAt } from '../host/space.ts';
import { PrestageError } from '../model/errors.ts';
import { createPartition } from './create.ts';
import { makeExt4Image } from './image-ext4.ts';
import { makeIsoImage } from './image-iso.ts';
import { type ImageWork, makeEmpty, workPathOf } from './image-work.ts';
import { checkImageSpace, EDGE_BYTES, type ImageFormat, type ImagePlan, planImage } from './plan-image.ts';
import { type WriteProgress, writeBundle } from './write.ts';

export interface ImageOptions {
  /** Path of the image. */
  readonly output: string;
  /** Directory of the bundle. */
  readonly bundle: string;
  readonly format: ImageFormat;
  /** GPT label of the partition, or volume label of the ISO image. */
  readonly label: string;
  /** Replace an existing image once the new one is complete. */
  readonly isReplacing: boolean;
  readonly isDry: boolean;
  readonly isRoot: boolean;
  readonly act: Act;
  readonly onProgress: (progress: WriteProgress) => void;
  readonly signal: AbortSignal;
}

export interface ImageReport {
  readonly path: string;
  readonly plan: ImagePlan;
  readonly bundle: SealedBundle;
  /** Size of the image; in a dry run, the planned size. */
  readonly sizeBytes: number;
}

/**
 * Makes an image that holds a bundle and is just large enough for it, and reads every byte back. The image gets its final name when it is complete.
 * @throws PrestageError ERR_BUNDLE…, ERR_USAGE, ERR_SPACE_PARTITION, ERR_PARTITION_WRITE, ERR_TOOL_FAILED, ERR_TOOL_MISSING, ERR_INTERRUPTED
 */
export async function makeImage(host: Host, options: ImageOptions): Promise<ImageReport> {
  const path = resolve(options.output);
  const bundle = await readBundle(options.bundle);
  const plan = planImage(bundle.bundle, options);
  await checkWorkplace(dirname(path));
  await checkOutput(path, options.isReplacing);
  checkImageSpace(plan, await spaceAt(dirname(path)));
  if (options.isDry) return { path, plan, bundle, sizeBytes: plan.sizeBytes };
  const temporary = join(dirname(path), `.${basename(path)}.partial`);
  try {
    await make(host, { ...options, path: temporary, bundle, plan });
    await options.act('place-image', async () => {
      await syncFile(temporary);
      await (options.isReplacing ? rename(temporary, path) : claim(temporary, path));
      await syncDirectory(dirname(path));
    });
  } catch (error) {
    if (options.signal.aborted && !(error instanceof PrestageError && error.code === 'ERR_INTERRUPTED')) throw interrupted(path, error);
    throw error;
  } finally {
    await options.act('end-image', async () => await rm(temporary, { force: true }));
  }
  return { path, plan, bundle, sizeBytes: (await stat(path)).size };
}

async function make(host: Host, work: ImageWork): Promise<void> {
  // Remove leftovers of a killed command, whatever format it made.
  await rm(work.path, { force: true });
  await removeTree(workPathOf(work.path));
  switch (work.plan.fileSystem) {
    case 'iso9660':
      return await makeIsoImage(host, work);
    case 'ext4':
      return await makeExt4Image(host, work);
    case 'xfs':
      return await makeXfsImage(host, work);
  }
}

/** Works as for a disk: makes a partition through a loop device and writes the bundle to it. */
async function makeXfsImage(host: Host, work: ImageWork): Promise<void> {
  const { path, plan, bundle, label, act, onProgress, signal } = work;
  await act('start-image', async () => await makeEmpty(path, plan.sizeBytes));
  const request = { label, sizeBytes: undefined, startSector: EDGE_BYTES / 512, existing: 'refuse' } as const;
  await createPartition(host, { disk: path, request, isDry: false, act, confirm: nobodyIsAsked });
  await writeBundle(host, {
    bundle: bundle.directory,
    target: path,
    label,
    isPruneFirst: false,
    isDry: false,
    act,
    confirm: nobodyIsAsked,
    onProgress,
    signal,
  });
}

/** The image is our own and new: nothing can be lost. */
async function nobodyIsAsked(): Promise<void> {}

async function checkOutput(path: string, isReplacing: boolean): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isFile())
    throw new PrestageError(
      'ERR_USAGE',
      `${path} exists and is not a regular file`,
      'Name a file; to write a bundle to a disk, use: prestage-agent partition write',
    );
  if (!isReplacing) throw new PrestageError('ERR_USAGE', `${path} already exists`, 'Choose another name, or use --replace');
}

/** Gives a file its final name, unless another process has taken that name in the meantime. */
async function claim(from: string, to: string): Promise<void> {
  await link(from, to).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST')
      throw new PrestageError('ERR_USAGE', `${to} was created in the meantime`, 'Choose another name, or use --replace');
    // File systems without hard links.
    await rename(from, to);
  });
}

async function syncFile(path: string): Promise<void> {
  await using file: FileHandle = await open(path, 'r');
  await file.sync();
}

function interrupted(path: string, cause: unknown): PrestageError {
  return new PrestageError(
    'ERR_INTERRUPTED',
    `${path}: making the image was interrupted; no partial file was left`,
    'Run the command again',
    { cause },
  );
}
