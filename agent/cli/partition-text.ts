import { formatBytes } from '../model/bytes.ts';
import type { CreateProposal } from '../partition/create.ts';
import type { DiskFacts, DiskPartition } from '../partition/disk-facts.ts';
import type { Losses } from '../partition/losses.ts';
import type { CreateStep } from '../partition/plan-create.ts';

/** A disk with what is on it and what will be done to it, for a person who has to decide. Pure. */
export function createPlanText({ plan, losses }: CreateProposal): string {
  const { disk, partition } = plan;
  return [
    ...diskLines(disk),
    ...(plan.steps.length === 0 ? ['nothing is to be done'] : ['this will be done:']),
    ...plan.steps.map((step) => `  ${stepText(disk, step)}`),
    ...lossLines(losses),
    ...plan.notices.map((notice) => `note: ${notice}`),
    `the data partition: ${partitionText(disk, partition)}`,
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
export function partitionText(disk: Pick<DiskFacts, 'sectorBytes'>, partition: DiskPartition): string {
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
      return 'move the second GPT to the end of the disk, which has grown';
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
  const used = losses.usedBytes === undefined ? 'what it holds cannot be read here' : `${formatBytes(losses.usedBytes)} in use`;
  const release = losses.release === undefined ? [] : [`the bundle of release ${losses.release || '(unnamed)'}`];
  const names = losses.names.length === 0 ? [] : [losses.names.join(' ')];
  return [`LOST with it: ${[used, ...release, ...names].join('; ')}`];
}
