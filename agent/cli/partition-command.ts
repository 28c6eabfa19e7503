import { parseBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { type CreateReport, createPartition } from '../partition/create.ts';
import { makeImage } from '../partition/image.ts';
import { IMAGE_FORMATS, type ImageFormat } from '../partition/plan-image.ts';
import { writeBundle } from '../partition/write.ts';
import type { CommandSpec, Flag } from './command-spec.ts';
import { confirm, confirmFlags, confirmFlagsOf } from './confirm.ts';
import { actFor, hostFor, progressStream, type Terminal } from './context.ts';
import type { Answer } from './output.ts';
import { bundleAndTarget, imageArguments } from './partition-order.ts';
import { createPlanText, imageData, imageText, writeData, writePlanText, writeText } from './partition-text.ts';
import { requireRoot } from './require-root.ts';
import { dryRunFlag, quietFlag } from './setting-flags.ts';
import { showBytes } from './show-bytes.ts';

const labelFlag: Flag = { usage: '--label <name>', help: 'GPT label of the data partition (default: data)' };

const createCommand: CommandSpec = {
  name: 'create',
  summary: 'Add a data partition to a disk or disk image',
  description: 'Add a data partition at the end of a disk or disk image, and format it with XFS. The plan is shown first.',
  arguments: [{ usage: '<device>', help: 'a whole disk (/dev/nvme0n1) or a disk image' }],
  flags: [
    { usage: '--size <size>', help: 'size of the partition at the end of the disk, such as 100GiB' },
    { usage: '--start-sector <n>', help: 'first sector; the partition extends to the end of the disk, or for --size' },
    labelFlag,
    { usage: '--reuse', help: 'use an existing partition with the label as it is, with its content' },
    { usage: '--replace', help: 'delete an existing partition with the label, with its content, and create a new one' },
    ...confirmFlags,
    quietFlag,
    dryRunFlag,
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent partition create /dev/nvme0n1 --size 100GiB --dry-run',
    'prestage-agent partition create /dev/nvme0n1 --size 250GiB --yes --expect-serial S4XYZ123',
    'truncate -s 200G disk.img && prestage-agent partition create disk.img --size 100GiB',
  ],
  answer: async (terminal, options, args) => await answerCreate(terminal, options, args[0] ?? ''),
};

const writeCommand: CommandSpec = {
  name: 'write',
  summary: 'Write a bundle to a data partition',
  description: 'Write a bundle to the data partition of a disk or a disk image, and read every byte back. An interrupted write continues.',
  arguments: [
    { usage: '<bundle>', help: 'directory of the bundle, with its prestage.json' },
    { usage: '<device>', help: 'a disk, its data partition, or a disk image' },
  ],
  flags: [
    labelFlag,
    { usage: '--prune-first', help: 'remove the files of an earlier bundle first, if there is no room for both bundles' },
    ...confirmFlags,
    quietFlag,
    dryRunFlag,
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent partition write bundle /dev/nvme0n1',
    'prestage-agent partition write bundle /dev/disk/by-partlabel/data',
    'prestage-agent partition write bundle disk.img --label data',
  ],
  answer: async (terminal, options, args) => await answerWrite(terminal, options, args),
};

const imageCommand: CommandSpec = {
  name: 'image',
  summary: 'Create a disk or ISO image that holds a bundle',
  description: 'Create an image that holds a bundle, sized to its content: a disk with a data partition, or ISO 9660 for virtual media.',
  arguments: [
    { usage: '<bundle>', help: 'directory of the bundle, with its prestage.json' },
    { usage: '[out]', help: 'file to create' },
  ],
  flags: [
    { usage: '--bundle <dir>', help: 'the bundle, if only the file to create is an argument' },
    {
      usage: '--format <format>',
      help: 'disk: GPT with XFS, or with ext4 if the user is not root; iso: ISO 9660, needs no root (default: disk)',
    },
    { usage: '--label <name>', help: 'GPT label of the partition, or volume label of the ISO image (default: data)' },
    { usage: '--replace', help: 'replace an existing image once the new one is complete' },
    quietFlag,
    dryRunFlag,
  ],
  forms: ['text', 'json'],
  examples: ['prestage-agent partition image bundle data.img', 'prestage-agent partition image bundle data.iso --format iso'],
  answer: async (terminal, options, args) => await answerImage(terminal, options, args),
};

/** `prestage-agent partition`: creates a partition for a bundle on a disk, and writes the bundle to it. */
export const partitionCommand: CommandSpec = {
  name: 'partition',
  summary: 'Create a data partition and write a bundle to it',
  description: 'Create a data partition, or a disk image with one, and write a bundle to it.',
  flags: [],
  commands: [createCommand, writeCommand, imageCommand],
};

async function answerCreate(terminal: Terminal, options: Readonly<Record<string, unknown>>, disk: string): Promise<Answer> {
  if (options.reuse === true && options.replace === true)
    throw new PrestageError(
      'ERR_USAGE',
      '--reuse and --replace cannot be combined: one keeps the partition, the other deletes it',
      'Use only one of them',
    );
  const host = hostFor(terminal, {});
  requireRoot(host, 'partition create', 'opens the disk, or attaches the image to a loop device');
  const report = await createPartition(host, {
    disk,
    isDry: options.dryRun === true,
    act: actFor(terminal, host),
    request: {
      label: labelOf(options),
      sizeBytes: sizeOf(options.size),
      startSector: sectorOf(options.startSector),
      existing: options.reuse === true ? 'reuse' : options.replace === true ? 'replace' : 'refuse',
    },
    confirm: async (proposal) => {
      const { name, identity } = proposal.plan.disk;
      await confirm(terminal, { plan: createPlanText(proposal), name, identity }, confirmFlagsOf(options));
    },
  });
  return { data: createData(report), text: createText(report, options.dryRun === true), exitCode: 0 };
}

async function answerWrite(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const { bundle, target } = await bundleAndTarget(args[0] ?? '', args[1] ?? '');
  const host = hostFor(terminal, {});
  requireRoot(host, 'partition write', 'mounts the data partition');
  using display = showBytes(host, progressStream(terminal));
  const report = await writeBundle(host, {
    bundle,
    target,
    label: labelOf(options),
    isPruneFirst: options.pruneFirst === true,
    isDry: options.dryRun === true,
    act: actFor(terminal, host),
    confirm: async (proposal) => {
      display.clear();
      const { name, identity } = proposal.partition;
      await confirm(terminal, { plan: writePlanText(proposal), name, identity }, confirmFlagsOf(options));
    },
    onProgress: display.onProgress,
    signal: terminal.stop,
  });
  return { data: writeData(report), text: writeText(report, options.dryRun === true), exitCode: 0 };
}

async function answerImage(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const { bundle, target } = await imageArguments(args, options.bundle);
  const host = hostFor(terminal, {});
  const isDry = options.dryRun === true;
  using display = showBytes(host, progressStream(terminal));
  const report = await makeImage(host, {
    output: target,
    bundle,
    format: formatOf(options.format),
    label: labelOf(options),
    isReplacing: options.replace === true,
    isDry,
    isRoot: process.getuid?.() === 0,
    act: actFor(terminal, host),
    onProgress: display.onProgress,
    signal: terminal.stop,
  });
  return { data: imageData(report, isDry), text: imageText(report, isDry), exitCode: 0 };
}

function formatOf(value: unknown): ImageFormat {
  const format = IMAGE_FORMATS.find((each) => each === (value ?? 'disk'));
  if (format !== undefined) return format;
  throw new PrestageError('ERR_USAGE', `--format must be ${IMAGE_FORMATS.join(' or ')}, got "${String(value)}"`, 'Correct --format');
}

function createText(report: CreateReport, isDry: boolean): string {
  const { disk, partition } = report.plan;
  if (isDry) return `${createPlanText(report)}\nnothing was written`;
  const place = disk.name === disk.device ? partition.device : `partition ${partition.number} of ${disk.name}`;
  return `${place} (label "${partition.label}", ${partition.fileSystem}) ${report.isDone ? 'was created' : 'already exists'}`;
}

function createData({ plan, losses, isDone }: CreateReport): unknown {
  const { disk, partition, steps, notices } = plan;
  return { apiVersion: 'prestage-agent/v1', kind: 'PartitionPlan', disk, partition, steps, notices, ...(losses && { losses }), isDone };
}

function labelOf(options: Readonly<Record<string, unknown>>): string {
  return typeof options.label === 'string' ? options.label : 'data';
}

function sizeOf(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  const bytes = parseBytes(value);
  if (bytes !== undefined && bytes > 0) return bytes;
  throw new PrestageError('ERR_USAGE', `--size "${value}" is not a size`, 'Give a number with a unit: 100GiB, 250GB');
}

function sectorOf(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined;
  if (/^[0-9]{1,15}$/.test(value)) return Number(value);
  throw new PrestageError('ERR_USAGE', `--start-sector "${value}" is not a sector number`, 'Give a whole number, such as 250000000');
}
