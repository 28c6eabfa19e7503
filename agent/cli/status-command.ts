import { setTimeout as sleep } from 'node:timers/promises';
import { own } from '../host/text-stream.ts';
import { formatBytes, formatDuration } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { type ImageState, isUsable } from '../model/run-state.ts';
import type { StatusReport } from '../status/assess.ts';
import { collectStatus } from '../status/collect.ts';
import { collectImageStatus } from '../status/image-look.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type SettingFlags, type Terminal } from './context.ts';
import { imageText } from './image-text.ts';
import { type Answer, OUTPUT_FORMS, type OutputForm, type Paint, painter, render, type Style } from './output.ts';
import { settingFlags, settingsOf } from './setting-flags.ts';

const WATCH_PERIOD_MS = 1000;

/** `prestage-agent status`: how the last run ended, or its progress. */
export const statusCommand: CommandSpec = {
  name: 'status',
  summary: 'Show how the last run ended, or its progress',
  description: 'Show how the last run ended, or its progress, image by image, with reasons and next steps. Changes nothing.',
  flags: [
    ...settingFlags(['root']),
    { usage: '--watch', help: 'update every second until the run has ended' },
    { usage: '--image <reference>', help: 'show whether podman and CRI-O can get this image here, from where, and by which policy' },
  ],
  forms: OUTPUT_FORMS,
  examples: [
    'prestage-agent status',
    'prestage-agent status --watch',
    'prestage-agent status --output json',
    'prestage-agent status --image quay.io/openshift-release-dev/ocp-release:4.22.3-x86_64',
  ],
  act: async (terminal, options) => {
    const output = OUTPUT_FORMS.find((form) => form === options.output) ?? 'text';
    if (typeof options.image === 'string') return await actImage(terminal, options.image, options);
    return await actStatus(terminal, { ...settingsOf(options), watch: options.watch === true, output });
  },
};

async function actStatus(
  terminal: Terminal,
  flags: SettingFlags & { readonly watch?: boolean; readonly output: OutputForm },
): Promise<Answer> {
  const host = hostFor(terminal, flags);
  for (;;) {
    const report = await collectStatus(host);
    const answer = { data: report, text: statusText(report, painter(terminal)), exitCode: report.status.exitCode };
    if (flags.watch !== true || report.status.readiness !== 'running' || terminal.stop.aborted) return answer;
    if (terminal.out.isTTY === true && flags.output === 'text') terminal.out.write(own('\u001b[H\u001b[2J'));
    terminal.out.write(render(answer, flags.output));
    await sleep(WATCH_PERIOD_MS, undefined, { signal: terminal.stop }).catch(() => undefined);
  }
}

async function actImage(terminal: Terminal, reference: string, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  if (options.watch === true) throw new PrestageError('ERR_USAGE', '--image and --watch cannot be combined', 'Use only one of them');
  const report = await collectImageStatus(hostFor(terminal, settingsOf(options)), reference);
  return { data: report, text: imageText(report, painter(terminal)), exitCode: report.image.exitCode };
}

const STYLE_OF: Readonly<Record<StatusReport['status']['readiness'], Style>> = {
  ready: 'good',
  running: 'bold',
  unknown: 'warn',
  degraded: 'warn',
  partial: 'warn',
  interrupted: 'warn',
  failed: 'bad',
  'never-run': 'warn',
  released: 'warn',
};

/** The status for people. Pure. */
function statusText(report: StatusReport, paint: Paint): string {
  const { status } = report;
  const head = [`${paint(STYLE_OF[status.readiness], status.readiness)}: ${status.reason}`, `next:      ${status.nextStep}`];
  return [...head, ...runLines(report), ...imageLines(status.images, paint)].join('\n');
}

type RunOfStatus = NonNullable<StatusReport['status']['run']>;

function runLines({ status }: StatusReport): readonly string[] {
  const { run } = status;
  if (run === undefined) return [];
  const took = run.durationMs === undefined ? '' : `, took ${formatDuration(run.durationMs)}`;
  const counts = Object.entries(status.counts).flatMap(([name, count]) => (count === 0 ? [] : [`${count} ${name}`]));
  return [
    `stage:     ${run.stage} (policy ${run.policy})`,
    `source:    ${sourceText(run)}`,
    ...(run.payload === undefined ? [] : [`payload:   ${run.payload}${run.architecture === undefined ? '' : ` for ${run.architecture}`}`]),
    ...(run.delivery === undefined ? [] : [`delivery:  ${run.delivery.kind} (${run.delivery.reason})`]),
    ...(run.store === undefined ? [] : storeLines(run.store)),
    ...(run.registry === undefined ? [] : [`registry:  ${run.registry.address} (${run.registry.how}), serves ${run.registry.tree}`]),
    ...(run.osImage === undefined ? [] : [`system:    ${[run.osImage.state, run.osImage.reason, ...run.osImage.references].join(', ')}`]),
    ...(run.storage === undefined
      ? []
      : [`storage:   ${run.storage.graphroot}${status.storageChecked ? '' : ' (as recorded by the run)'}`]),
    ...(status.unseen ?? []).map(({ what, reason }) => `not seen:  ${what}: ${reason}`),
    `images:    ${counts.join(', ') || 'none known'}`,
    ...(run.bytes.total === 0 ? [] : [`archives:  ${formatBytes(run.bytes.done)} of ${formatBytes(run.bytes.total)} read`]),
    `last run:  ${run.startedAt}${took}, agent ${run.agentVersion}`,
    ...(status.lastError === undefined ? [] : [`last error: ${status.lastError.code}: ${status.lastError.message}`]),
    ...run.notices.map((notice) => `notice:    ${notice}`),
  ];
}

const VERIFIED: Readonly<Record<NonNullable<RunOfStatus['store']>['verified'], string>> = {
  kernel: 'the kernel checks what it reads',
  'before-mount': 'hashed before it was mounted',
  pending: 'not hashed yet',
  yes: 'hashed after it was mounted',
};

function storeLines(store: NonNullable<RunOfStatus['store']>): readonly string[] {
  return [
    `store:     ${store.image} on ${store.path}, from ${store.placement}`,
    `trust:     ${store.trust}: ${store.trustReason}; ${VERIFIED[store.verified]}`,
  ];
}

function sourceText(run: RunOfStatus): string {
  const { source } = run;
  if (source === undefined) return 'none: the run ended before it chose one';
  if (source.kind === 'directory') return `directory ${source.path}`;
  if (source.kind === 'disk') return `copy on the disk, ${source.path}: there is no partition "${source.label}"`;
  return `partition "${source.label}"${source.device === undefined ? ', not opened' : ` on ${source.device} (${source.fileSystem})`}`;
}

function imageLines(images: readonly ImageState[], paint: Paint): readonly string[] {
  return images.flatMap((image) => {
    const style: Style = isUsable(image) ? 'good' : image.state === 'failed' || image.state === 'missing' ? 'bad' : 'warn';
    const line = `  ${paint(style, image.state.padEnd(8))} ${image.reference}`;
    if (isUsable(image) || image.reason === undefined) return [line];
    return [line, `           ${image.reason}`, ...(image.error === undefined ? [] : [`           next: ${image.error.remedy}`])];
  });
}
