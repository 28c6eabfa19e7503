import { formatBytes } from '../model/bytes.ts';
import type { CreateProposal } from '../partition/create.ts';
import type { DiskFacts, DiskPartition } from '../partition/disk-facts.ts';
import type { ImageReport } from '../partition/image.ts';
import type { Losses } from '../partition/losses.ts';
import type { CreateStep } from '../partition/plan-create.ts';
import type { WriteProposal, WriteReport } from '../partition/write.ts';

/** A disk with its content and the planned changes, for a person who has to decide. Pure. */
export function createPlanText({ plan, losses }: CreateProposal): string {
  const { disk, partition } = plan;
  return [
    ...diskLines(disk),
    ...(plan.steps.length === 0 ? ['nothing to do'] : ['these changes will be made:']),
    ...plan.steps.map((step) => `  ${stepText(disk, step)}`),
    ...lossLines(losses),
    ...plan.notices.map((notice) => `note: ${notice}`),
    `data partition: ${partitionText(disk, partition)}`,
  ].join('\n');
}

/** Model, identity, size and partitions of a disk. Pure. */
function diskLines(disk: DiskFacts): readonly string[] {
  const table = disk.table === 'none' ? 'no partition table' : disk.table.toUpperCase();
  return [
    `disk ${disk.name}${disk.device === disk.name ? '' : ` (${disk.device})`}`,
    `  model ${disk.model ?? 'unknown'}, ${disk.identity.kind} ${disk.identity.value}`,
    `  ${formatBytes(disk.sizeBytes)}, sectors of ${disk.sectorBytes} bytes, ${table}`,
    ...disk.partitions.map((partition) => `  ${partitionText(disk, partition)}`),
  ];
}

/** One partition with its place in sectors and GiB. Pure. */
function partitionText(disk: Pick<DiskFacts, 'sectorBytes'>, partition: DiskPartition): string {
  const { number, label, startSector, endSector, fileSystem } = partition;
  const gib = (sectors: number): string => ((sectors * disk.sectorBytes) / 1024 ** 3).toFixed(2);
  const size = formatBytes((endSector - startSector + 1) * disk.sectorBytes);
  return `${number}: "${label}" ${fileSystem ?? 'no file system'}, ${size}, sectors ${startSector} to ${endSector} (${gib(startSector)} to ${gib(endSector + 1)} GiB)`;
}

function stepText(disk: DiskFacts, step: CreateStep): string {
  switch (step.kind) {
    case 'new-table':
      return 'write a new, empty GPT';
    case 'move-second-table':
      return 'move the backup GPT to the end of the disk, which has grown';
    case 'delete-partition':
      return `DELETE partition ${partitionText(disk, step.partition)}`;
    case 'add-partition':
      return `add partition ${partitionText(disk, step.partition)}`;
    case 'format':
      return `format partition ${step.partition.number} with XFS`;
  }
}

function lossLines(losses: Losses | undefined): readonly string[] {
  if (losses === undefined) return [];
  const used = losses.usedBytes === undefined ? 'its content cannot be read here' : `${formatBytes(losses.usedBytes)} in use`;
  const release = losses.release === undefined ? [] : [`the bundle of release ${losses.release || '(unnamed)'}`];
  const names = losses.names.length === 0 ? [] : [losses.names.join(' ')];
  return [`LOST with it: ${[used, ...release, ...names].join('; ')}`];
}

/** The changes that writing a bundle makes to a partition. Pure. */
export function writePlanText({ partition, bundle, plan }: WriteProposal): string {
  const { copy, keep, obsolete, replace, copyBytes, replacesRelease } = plan;
  const lost = replacesRelease === undefined ? 'the existing files' : `the existing bundle of release ${replacesRelease || '(unnamed)'}`;
  return [
    `partition ${placeOf(partition)}, disk with the ${partition.identity.kind} ${partition.identity.value}`,
    `  ${copy.length} files to copy (${formatBytes(copyBytes)}), ${keep.length} already present`,
    ...(replace.length === 0 ? [] : [`  ${replace.length} files with different content are removed first`]),
    ...(obsolete.length === 0
      ? []
      : [`  ${obsolete.length} files of earlier bundles are removed ${plan.isPruneFirst ? 'first' : 'at the end'}`]),
    ...(plan.isReplacing ? [`LOST: ${lost}, replaced by the bundle of release ${bundle.bundle.release || '(unnamed)'}`] : []),
  ].join('\n');
}

/** The answer of `partition write`. Pure. */
export function writeText(report: WriteReport, isDry: boolean): string {
  if (isDry) return `${writePlanText(report)}\nnothing was written`;
  const { partition, plan, bundle } = report;
  const files = bundle.bundle.files.length;
  if (!report.isWritten) return `${placeOf(partition)} already holds the bundle: ${files} files read, nothing written`;
  return `${placeOf(partition)} holds the bundle: ${files} files, ${plan.copy.length} copied (${formatBytes(plan.copyBytes)}), all read back`;
}

export function writeData(report: WriteReport): unknown {
  const { partition, plan, bundle } = report;
  return {
    apiVersion: 'prestage-agent/v1',
    kind: 'PartitionWrite',
    target: partition.name,
    device: partition.device,
    identity: partition.identity,
    bundleSha256: bundle.sha256,
    release: bundle.bundle.release,
    copy: plan.copy.map((file) => file.path),
    keep: plan.keep.length,
    replace: plan.replace,
    obsolete: plan.obsolete,
    copyBytes: plan.copyBytes,
    ...(plan.replacesRelease !== undefined && { replacesRelease: plan.replacesRelease }),
    isWritten: report.isWritten,
  };
}

/** The answer of `partition image`. Pure. */
export function imageText({ path, plan, bundle, sizeBytes }: ImageReport, isDry: boolean): string {
  const what = plan.format === 'iso' ? 'ISO 9660' : `a disk with ${plan.fileSystem}`;
  const size = `${isDry ? 'about ' : ''}${formatBytes(sizeBytes)}`;
  const line = `${path}: ${what}, ${size}, ${bundle.bundle.files.length + 1} files`;
  return isDry ? `${line}\nnothing was written` : `${line}, all read back`;
}

export function imageData({ path, plan, bundle, sizeBytes }: ImageReport, isDry: boolean): unknown {
  const { format, fileSystem } = plan;
  const about = { path, format, fileSystem, sizeBytes, bundleSha256: bundle.sha256, release: bundle.bundle.release };
  return { apiVersion: 'prestage-agent/v1', kind: 'PartitionImage', ...about, isWritten: !isDry };
}

function placeOf({ name, device }: WriteReport['partition']): string {
  return name === device ? device : `${name} (${device})`;
}
