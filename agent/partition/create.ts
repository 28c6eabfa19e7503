import type { Act } from '../host/acts.ts';
import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { reclaimTargets } from '../host/private-mount.ts';
import { PrestageError } from '../model/errors.ts';
import { type OpenDisk, openDisk, readDisk } from './disk.ts';
import type { DiskFacts, DiskPartition } from './disk-facts.ts';
import { announcePartition, forgetPartition } from './kernel-partitions.ts';
import { type Losses, surveyLosses } from './losses.ts';
import { makeXfs } from './make-xfs.ts';
import { type CreatePlan, type CreateRequest, type CreateStep, planCreate } from './plan-create.ts';
import { refuseCreate } from './refusals.ts';
import { warnOfFeatures } from './xfs-features.ts';

export interface CreateOptions {
  /** A disk, or a disk image. */
  readonly disk: string;
  readonly request: CreateRequest;
  /** Only plans; changes nothing. */
  readonly isDry: boolean;
  readonly act: Act;
  /** Shows the plan. Returns if the person agrees, else throws. Not called if there is nothing to do. */
  readonly confirm: (proposal: CreateProposal) => Promise<void>;
}

/** What a person decides about. */
export interface CreateProposal {
  readonly plan: CreatePlan;
  /** Content of the partition to be replaced. */
  readonly losses: Losses | undefined;
}

export interface CreateReport extends CreateProposal {
  readonly isDone: boolean;
}

/**
 * Adds a data partition to a disk and formats it. The disk is read again after the person has agreed, because it may have changed.
 * @throws PrestageError ERR_DISK…, ERR_PARTITION_EXISTS, ERR_PARTITION_AMBIGUOUS, ERR_PARTITION_FILESYSTEM, ERR_USAGE; ERR_TOOL_FAILED; what
 * `confirm` throws
 */
export async function createPartition(host: Host, options: CreateOptions): Promise<CreateReport> {
  const { act } = options;
  await act('reclaim-targets', async () => await reclaimTargets(host));
  await using disk = await openDisk(host, options.disk, { readOnly: options.isDry, act });
  const { plan, losses } = await propose(host, disk, options.request);
  // A reused partition keeps its file system. The release that it must suit is known only when a bundle is written.
  if (plan.steps.length === 0) await warnOfFeatures(host, plan.partition.device, '');
  if (options.isDry || plan.steps.length === 0) return { plan, losses, isDone: false };
  await options.confirm({ plan, losses });
  const again = await readDisk(host, disk);
  refuse(host, again);
  if (essence(again) !== essence(plan.disk)) throw changed(plan.disk);
  await runSteps(host, plan, act);
  return { plan, losses, isDone: true };
}

async function propose(host: Host, disk: OpenDisk, request: CreateRequest): Promise<CreateProposal> {
  const facts = await readDisk(host, disk);
  refuse(host, facts);
  const plan = planCreate(facts, request);
  const replaced = plan.steps.find((step) => step.kind === 'delete-partition')?.partition;
  return { plan, losses: replaced === undefined ? undefined : await surveyLosses(host, facts, replaced) };
}

/** Throws the most serious reason and logs all others. */
function refuse(host: Host, disk: DiskFacts): void {
  const [first, ...others] = refuseCreate(disk);
  if (first === undefined) return;
  for (const other of others) host.log('error', other.message);
  throw first;
}

async function runSteps(host: Host, { disk, steps }: CreatePlan, act: Act): Promise<void> {
  const args = steps.flatMap(sgdiskArgs);
  if (args.length > 0) {
    host.log('info', `writing the partition table of ${disk.name}`);
    for (const one of steps) await beforeTable(host, disk, { one, act });
    // One call: either the whole table is written, or nothing.
    await act('write-table', async () => await output(host.exec, 'sgdisk', ['--set-alignment=1', ...args, disk.device]));
  }
  for (const one of steps) if (one.kind === 'format') await format(host, disk, { partition: one.partition, act });
}

async function beforeTable(host: Host, disk: DiskFacts, { one, act }: { readonly one: CreateStep; readonly act: Act }): Promise<void> {
  if (one.kind === 'delete-partition') await act('forget-partition', async () => await forgetPartition(host, disk, one.partition));
  if (one.kind === 'add-partition') await act('clear-place', async () => await clearPlace(host, disk, one.partition));
}

/** File systems have their signatures in the first or last MiB of a partition. */
const SIGNATURE_BYTES = 1024 * 1024;

/** Removes old signatures, so that they do not show up if this is interrupted between the table and the file system. */
async function clearPlace(host: Host, { device, sectorBytes }: DiskFacts, { startSector, endSector }: DiskPartition): Promise<void> {
  const sectors = Math.min(SIGNATURE_BYTES / sectorBytes, endSector - startSector + 1);
  for (const first of [startSector, endSector - sectors + 1]) {
    const range = [`bs=${sectorBytes}`, `seek=${first}`, `count=${sectors}`];
    await output(host.exec, 'dd', ['if=/dev/zero', `of=${device}`, ...range, 'conv=notrunc,fdatasync', 'status=none']);
  }
}

function sgdiskArgs(step: CreatePlan['steps'][number]): readonly string[] {
  switch (step.kind) {
    case 'new-table':
      return ['--clear'];
    case 'move-second-table':
      return ['--move-second-header'];
    case 'delete-partition':
      return [`--delete=${step.partition.number}`];
    case 'add-partition': {
      const { number, startSector, endSector, label } = step.partition;
      return [`--new=${number}:${startSector}:${endSector}`, `--typecode=${number}:8300`, `--change-name=${number}:${label}`];
    }
    case 'format':
      return [];
  }
}

async function format(
  host: Host,
  disk: DiskFacts,
  { partition, act }: { readonly partition: DiskPartition; readonly act: Act },
): Promise<void> {
  await act('announce-partition', async () => await announcePartition(host, disk, partition));
  host.log('info', `formatting ${partition.device} with XFS`);
  await act('format-partition', async () => await makeXfs(host, partition.device));
}

/** The facts that a plan depends on. The uses of the disk are left out: they are judged again. */
function essence(disk: DiskFacts): string {
  return JSON.stringify({ ...disk, uses: [], isClaimed: false });
}

function changed(disk: DiskFacts): PrestageError {
  return new PrestageError(
    'ERR_DISK_CHANGED',
    `${disk.name} has changed since the plan was shown; nothing was written`,
    'Find out what else changes the disk, then run the command again',
  );
}
