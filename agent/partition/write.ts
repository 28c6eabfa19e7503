import { createHash } from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { readBundle, type SealedBundle } from '../bundle/read-bundle.ts';
import { type BundleFault, verifyFiles } from '../bundle/verify-files.ts';
import type { Act } from '../host/acts.ts';
import { removeTemporaries, syncDirectory, writeAtomic } from '../host/atomic.ts';
import { output, quote } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import type { MountLease } from '../host/mounts.ts';
import { mountPrivately } from '../host/private-mount.ts';
import { BUNDLE_FILE, PARTIAL_FILE } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { listFaults } from '../model/faults.ts';
import { copyFile, writeError } from './copy-file.ts';
import { removeInner } from './inner-files.ts';
import { type LocatedPartition, locatePartition } from './locate.ts';
import { formatNote } from './partial-note.ts';
import { type PartitionSurvey, planWrite, type WritePlan } from './plan-write.ts';
import { surveyPartition } from './survey-partition.ts';
import { warnOfFeatures } from './xfs-features.ts';

export interface WriteOptions {
  /** Directory of the bundle. */
  readonly bundle: string;
  /** A disk, a partition or a disk image. */
  readonly target: string;
  readonly label: string;
  /** Remove files of an earlier bundle first, if both bundles do not fit. */
  readonly isPruneFirst: boolean;
  readonly isDry: boolean;
  readonly act: Act;
  /** Called before a complete bundle is replaced; returns if the person agrees. */
  readonly confirm: (proposal: WriteProposal) => Promise<void>;
  readonly onProgress: (progress: WriteProgress) => void;
  /** Interrupts the work; the same command continues from there. */
  readonly signal: AbortSignal;
}

export interface WriteProposal {
  readonly partition: Pick<LocatedPartition, 'name' | 'device' | 'identity'>;
  readonly bundle: SealedBundle;
  readonly plan: WritePlan;
}

export interface WriteProgress {
  readonly phase: 'comparing' | 'copying' | 'reading back';
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface WriteReport extends WriteProposal {
  /** False if nothing was written: the bundle was already there, or it was a dry run. */
  readonly isWritten: boolean;
}

/** One copy reads and hashes while the other writes; more copies would only make a disk seek. */
const PARALLEL_COPIES = 2;

/**
 * Writes a bundle to a data partition. PARTIAL_FILE exists there from before the first change until every byte has been read back. Files that already
 * have the right content are kept, so an interrupted write continues.
 * @throws PrestageError ERR_BUNDLE…, ERR_DISK…, ERR_PARTITION_…, ERR_SPACE_PARTITION, ERR_INTERRUPTED; what `confirm` throws
 */
export async function writeBundle(host: Host, options: WriteOptions): Promise<WriteReport> {
  const bundle = await readBundle(options.bundle);
  await checkFiles(bundle, 'quick', options);
  await using partition = await locatePartition(host, { ...options, readOnly: options.isDry });
  if (partition.fileSystem === 'xfs') await warnOfFeatures(host, partition.device, bundle.bundle.release);
  try {
    return await writeTo(host, partition, { bundle, options });
  } catch (error) {
    if (options.signal.aborted) throw interrupted(partition, error);
    throw writeError(partition.name, error);
  }
}

interface Work {
  readonly bundle: SealedBundle;
  readonly options: WriteOptions;
}

async function writeTo(host: Host, partition: LocatedPartition, work: Work): Promise<WriteReport> {
  const { bundle, options } = work;
  const survey = await look(host, partition, work);
  const plan = planWrite(bundle.bundle, survey, { isPruneFirst: options.isPruneFirst, where: partition.device });
  const proposal: WriteProposal = { partition, bundle, plan };
  if (options.isDry || plan.isDone) return { ...proposal, isWritten: false };
  if (plan.isReplacing) await options.confirm(proposal);
  await mark(host, partition, { files: [...survey.earlier, ...bundle.bundle.files], act: options.act });
  await copy(host, partition, { ...work, plan });
  await readBack(host, partition, work);
  await unmark(host, partition, options.act);
  return { ...proposal, isWritten: true };
}

/** A dry run does not even replay the journal. */
async function look(host: Host, partition: LocatedPartition, { bundle, options }: Work): Promise<PartitionSurvey> {
  await using mount = await mounted(host, partition, { readOnly: options.isDry, act: options.act });
  return await surveyPartition(mount.path, bundle, {
    parallel: host.cores,
    onProgress: progressOf('comparing', bundle, options),
    signal: options.signal,
  });
}

/** Writes the note in a mount of its own, so that it is on the disk itself, not only in a journal, before anything else changes. */
async function mark(
  host: Host,
  partition: LocatedPartition,
  { files, act }: { readonly files: PartitionSurvey['earlier']; readonly act: Act },
): Promise<void> {
  await using mount = await mounted(host, partition, { readOnly: false, act });
  await act('mark-partition', async () => {
    await writeAtomic(join(mount.path, PARTIAL_FILE), formatNote(files));
    await removeTemporaries(mount.path);
  });
}

async function copy(
  host: Host,
  partition: LocatedPartition,
  { bundle, plan, options }: Work & { readonly plan: WritePlan },
): Promise<void> {
  const { act } = options;
  await using mount = await mounted(host, partition, { readOnly: false, act });
  const top = mount.path;
  for (const path of [...plan.replace, ...(plan.isPruneFirst ? plan.obsolete : [])])
    await act('remove-replaced-file', async () => await removeInner(top, path));
  await copyAll(top, { bundle, plan, options });
  await act('sync-target', async () => await syncAll(host, partition, top));
  const manifest = await readSealed(bundle.directory, bundle);
  await act('place-bundle-manifest', async () => await writeAtomic(join(top, BUNDLE_FILE), manifest));
  for (const path of plan.obsolete) await act('remove-obsolete-file', async () => await removeInner(top, path));
  await act('sync-target', async () => await syncAll(host, partition, top));
}

/** syncfs(2): writes that a dead disk did not accept show up here at the latest. */
async function syncAll(host: Host, partition: LocatedPartition, top: string): Promise<void> {
  const result = await host.exec('sync', ['--file-system', top]);
  if (result.exitCode === 0) return;
  throw new PrestageError(
    'ERR_PARTITION_WRITE',
    `${partition.device} did not accept all writes: ${quote(result.stderr)}`,
    'Check that the disk is present and healthy (lsblk, dmesg), then run the command again: it continues where it stopped',
  );
}

async function copyAll(top: string, { bundle, plan, options }: Work & { readonly plan: WritePlan }): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const limit = pLimit(PARALLEL_COPIES);
  let bytes = 0;
  const onBytes = (added: number): void => {
    bytes += added;
    options.onProgress({ phase: 'copying', bytes, totalBytes: plan.copyBytes });
  };
  const copies = plan.copy.map((file) =>
    limit(async () => {
      signal.throwIfAborted();
      await options.act('copy-bundle-file', async () => await copyFile(file, { from: bundle.directory, to: top, onBytes, signal }));
    }).catch((error: unknown) => {
      // The first error aborts the other copies; their errors add nothing.
      if (!stop.signal.aborted) stop.abort(error);
      throw error;
    }),
  );
  await Promise.allSettled(copies);
  if (stop.signal.aborted) throw stop.signal.reason;
}

/** Reads every byte back from the disk, with caches dropped. */
async function readBack(host: Host, partition: LocatedPartition, work: Work): Promise<void> {
  const { bundle, options } = work;
  await dropCaches(host, partition);
  await using mount = await mounted(host, partition, { readOnly: true, act: options.act });
  await readSealed(mount.path, bundle);
  await checkFiles({ ...bundle, directory: mount.path }, 'full', { ...options, parallel: host.cores });
}

/** The bytes of the manifest, which must be those that the plan was made from. */
async function readSealed(directory: string, bundle: SealedBundle): Promise<Buffer> {
  const path = join(directory, BUNDLE_FILE);
  const bytes = await readFile(path);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  if (sha256 === bundle.sha256) return bytes;
  throw new PrestageError(
    'ERR_BUNDLE_FILE',
    `${path} has the sha256 ${sha256}, expected ${bundle.sha256}`,
    'Run the command again; if it fails again, replace the disk',
  );
}

/** blockdev(8) empties the device's cache; for an image, dd(1) asks the kernel to forget the file behind the loop device. */
async function dropCaches(host: Host, { device, image }: LocatedPartition): Promise<void> {
  await output(host.exec, 'blockdev', ['--flushbufs', device]);
  if (image !== undefined) await host.exec('dd', [`of=${image}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none']);
}

async function unmark(host: Host, partition: LocatedPartition, act: Act): Promise<void> {
  await using mount = await mounted(host, partition, { readOnly: false, act });
  await act('unmark-partition', async () => {
    await rm(join(mount.path, PARTIAL_FILE), { force: true });
    await syncDirectory(mount.path);
  });
}

async function mounted(
  host: Host,
  { device, fileSystem }: LocatedPartition,
  how: { readonly readOnly: boolean; readonly act: Act },
): Promise<MountLease> {
  return await mountPrivately(host, { device, fileSystem, ...how });
}

/** @throws PrestageError ERR_BUNDLE_FILE with every fault */
async function checkFiles(
  bundle: SealedBundle,
  mode: 'quick' | 'full',
  options: Pick<WriteOptions, 'onProgress' | 'signal'> & { readonly parallel?: number },
): Promise<void> {
  const { directory } = bundle;
  const faults = await verifyFiles(directory, bundle.bundle.files, {
    parallel: options.parallel ?? 1,
    mode,
    onProgress: progressOf('reading back', bundle, options),
    signal: options.signal,
  });
  if (faults.length > 0) throw faulty(directory, faults);
}

function progressOf(phase: WriteProgress['phase'], { bundle }: SealedBundle, { onProgress }: Pick<WriteOptions, 'onProgress'>) {
  const totalBytes = bundle.files.reduce((total, file) => total + file.sizeBytes, 0);
  return (bytes: number): void => onProgress({ phase, bytes, totalBytes });
}

function faulty(directory: string, faults: readonly BundleFault[]): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    listFaults(
      `${directory} does not match its ${BUNDLE_FILE}`,
      faults.map((fault) => fault.message),
    ),
    faults[0]?.remedy ?? 'Build the bundle again',
  );
}

function interrupted(partition: LocatedPartition, cause: unknown): PrestageError {
  return new PrestageError(
    'ERR_INTERRUPTED',
    `writing to ${partition.name} was interrupted`,
    'Run the command again; it continues from there',
    { cause },
  );
}
