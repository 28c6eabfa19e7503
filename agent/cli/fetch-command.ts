import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import type { SealedBundle } from '../bundle/read-bundle.ts';
import { type FetchEvent, type FetchReport, fetchFiles } from '../factory/fetch/fetch.ts';
import { type FetchTarget, openTarget } from '../factory/fetch/target.ts';
import type { Host } from '../host/host.ts';
import { formatBytes, formatDuration, formatRate } from '../model/bytes.ts';
import { exitCodes, PrestageError } from '../model/errors.ts';
import { inWords } from '../model/faults.ts';
import { reasonOf } from '../model/system-error.ts';
import type { CommandSpec } from './command-spec.ts';
import { confirm, confirmFlags, confirmFlagsOf, type Question } from './confirm.ts';
import { actFor, hostFor, progressStream, type Terminal } from './context.ts';
import { flagOf } from './flag-of.ts';
import { stopSignal } from './interrupt.ts';
import { type Answer, OUTPUT_FORMS, type Paint, painter } from './output.ts';
import { requireRootToMount } from './require-root.ts';
import { dryRunFlag, quietFlag } from './setting-flags.ts';
import { showTotals, type TotalsDisplay } from './show-totals.ts';

/** `prestage-agent fetch`: downloads a bundle, or a folder without prestage.json, from a web server. */
export const fetchCommand: CommandSpec = {
  name: 'fetch',
  summary: 'Fetch a bundle from a web server',
  description:
    'Fetch a bundle from a plain web server and verify it by its manifest. If the server has no prestage.json, fetch all files that the index page of the folder lists. Existing files are kept, interrupted downloads continue.',
  arguments: [{ usage: '<url>', help: 'address of the folder: http://HOST/FOLDER/' }],
  flags: [
    { usage: '--to <target>', help: 'target: a folder, or a disk, partition or disk image with a data partition' },
    { usage: '--label <name>', help: 'GPT label of the data partition on a disk (default: data)' },
    { usage: '--parallel <n>', help: 'files at a time, 1 to 64 (default: 4)' },
    { usage: '--retries <n>', help: 'further attempts after a temporary failure, 0 to 20 (default: 5)' },
    { usage: '--bundle-sha256 <hex>', help: 'sha256 that prestage.json must have' },
    { usage: '--header <header...>', help: "header for this server, such as 'Authorization: Basic …'; can be repeated" },
    { usage: '--ca <file>', help: 'PEM file of a CA to trust, in addition to those of the machine' },
    ...confirmFlags,
    quietFlag,
    dryRunFlag,
  ],
  forms: OUTPUT_FORMS,
  examples: [
    'prestage-agent fetch http://10.0.0.1/4.14.0/ --to /mnt/data',
    'prestage-agent fetch http://10.0.0.1/4.14.0/ --to /dev/nvme0n1',
    'prestage-agent fetch https://factory.example/4.14.0/ --to . --ca factory.pem --dry-run',
  ],
  answer: answerFetch,
};

const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)$/;

const numberFrom = (least: number, most: number, otherwise: number) =>
  v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,3}$/, 'is not a whole number'),
      v.toNumber(),
      v.minValue(least, `is less than ${least}`),
      v.maxValue(most, `is more than ${most}`),
    ),
    String(otherwise),
  );

const optionsSchema = v.object({
  url: v.string(),
  to: v.string(),
  label: v.optional(v.pipe(v.string(), v.nonEmpty('is empty')), 'data'),
  parallel: numberFrom(1, 64, 4),
  retries: numberFrom(0, 20, 5),
  bundleSha256: v.exactOptional(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'is not 64 lower-case hex digits'))),
  header: v.optional(v.array(v.pipe(v.string(), v.regex(HEADER, 'is not NAME: VALUE'))), []),
  ca: v.exactOptional(v.string()),
  dryRun: v.optional(v.boolean(), false),
});

async function answerFetch(terminal: Terminal, options: Readonly<Record<string, unknown>>, args: readonly string[]): Promise<Answer> {
  const parsed = v.safeParse(optionsSchema, { ...options, url: args[0] });
  if (!parsed.success) {
    const faults = parsed.issues.map((issue) => `${flagOf(v.getDotPath(issue) ?? '')} ${inWords(issue)}`);
    throw new PrestageError('ERR_USAGE', `fetch cannot start: ${faults.join('; ')}`, 'Run: prestage-agent fetch --help');
  }
  const { url, to, label, parallel, retries, bundleSha256, header, ca, dryRun } = parsed.output;
  const host = hostFor(terminal, {});
  await requireRootToMount(host, 'fetch', to);
  const startMs = host.clock.monotonicMs();
  const act = actFor(terminal, host);
  await using target = await openTarget(host, { to, label, isDry: dryRun, act });
  using progress = showFetch(host, terminal);
  const { partition } = target;
  const report = await fetchFiles(host, {
    url,
    directory: target.directory,
    parallel,
    retries,
    headers: Object.fromEntries(header.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()])),
    ca: ca === undefined ? undefined : await readAuthority(ca),
    bundleSha256,
    isDry: dryRun,
    act,
    confirm:
      partition && (async (replaced) => await confirm(terminal, questionOf(target.name, partition, replaced), confirmFlagsOf(options))),
    signal: stopSignal(terminal, 'Run the command again: it continues where it was interrupted'),
    onEvent: progress.onEvent,
  });
  const durationMs = host.clock.monotonicMs() - startMs;
  const shown = { ...report, directory: target.name };
  return {
    data: { apiVersion: 'prestage-agent/v1', kind: 'FetchReport', ...shown, durationMs: Math.round(durationMs) },
    text: fetchText(shown, durationMs, painter(terminal)),
    exitCode: exitCodeOfFetch(report.outcome),
  };
}

/** What is lost if a partition already has a complete bundle. */
function questionOf(name: string, { device, identity }: NonNullable<FetchTarget['partition']>, { bundle, sha256 }: SealedBundle): Question {
  const release = bundle.release === '' ? 'a bundle' : `the bundle ${bundle.release}`;
  return {
    plan: `${device} holds ${release} (prestage.json sha256 ${sha256}); it will be replaced, and is not usable until the fetch is complete`,
    name,
    identity,
  };
}

function exitCodeOfFetch(outcome: FetchReport['outcome']): number {
  return outcome === 'partial' || outcome === 'failed' ? exitCodes[outcome] : 0;
}

async function readAuthority(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new PrestageError('ERR_USAGE', `--ca ${path} cannot be read: ${reasonOf(cause)}`, 'Give a PEM file', { cause });
  });
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
  throw new PrestageError('ERR_USAGE', `--ca ${path} does not contain a PEM certificate`, 'Give a PEM file');
}

/** The report for people. Pure. */
function fetchText(report: FetchReport, durationMs: number, paint: Paint): string {
  const style = report.outcome === 'complete' ? 'good' : report.outcome === 'planned' ? 'bold' : 'bad';
  const did = report.outcome === 'planned' ? 'to fetch' : 'fetched';
  const figures = [
    `${report.fetched.files} files ${did} (${formatBytes(report.fetched.bytes)})`,
    `${report.kept.files} kept (${formatBytes(report.kept.bytes)})`,
    ...(report.failed.length > 0 ? [`${report.failed.length} failed`] : []),
    ...(report.removed.length > 0 ? [`${report.removed.length} of an earlier bundle removed`] : []),
  ];
  const next = report.outcome === 'complete' ? `next:     prestage-agent verify ${report.directory}` : undefined;
  return [
    `${paint(style, report.outcome)}: ${figures.join(', ')} in ${formatDuration(durationMs)}`,
    `from:     ${report.url} (${report.source === 'bundle' ? 'bundle' : 'folder without prestage.json: the files cannot be verified'})`,
    `to:       ${report.directory}`,
    ...(report.bundleSha256 === undefined ? [] : [`manifest: sha256 ${report.bundleSha256}`]),
    ...report.notices.map((notice) => `notice:   ${notice}`),
    ...report.failed.flatMap(({ path, error }) => [
      `  ${paint('bad', 'failed')} ${path}: ${error.message}`,
      `         ${error.code}; next: ${error.remedy}`,
    ]),
    ...(next === undefined ? [] : [next]),
  ].join('\n');
}

/** The totals of a fetch, counted from its events. */
function showFetch(host: Host, terminal: Terminal): Disposable & { readonly onEvent: (event: FetchEvent) => void } {
  const totals = { files: 0, bytes: 0, doneFiles: 0, phase: 'starting' };
  const there = new Map<string, number>();
  const atStart = new Map<string, number>();
  let startMs = host.clock.monotonicMs();
  const describe = (): string => {
    if (totals.files === 0) return totals.phase;
    const thereBytes = sum(there);
    const rate = ((thereBytes - sum(atStart)) * 1000) / Math.max(1, host.clock.monotonicMs() - startMs);
    return `${totals.doneFiles}/${totals.files} files, ${formatBytes(thereBytes)} of ${formatBytes(totals.bytes)}, ${formatRate(rate)}`;
  };
  /** Adds an event to the totals; returns the line to print for it, if any. */
  const take = (event: FetchEvent): string | undefined => {
    switch (event.kind) {
      case 'phase':
        totals.phase = event.text;
        return event.text;
      case 'planned':
        totals.files = event.files;
        totals.bytes = event.bytes;
        startMs = host.clock.monotonicMs();
        return `${event.files} files to fetch (${formatBytes(event.bytes)}), ${event.keptFiles} already present (${formatBytes(event.keptBytes)})`;
      case 'bytes':
        // Bytes from an earlier command do not count for the rate of this one.
        if (!there.has(event.path)) atStart.set(event.path, event.sizeBytes);
        there.set(event.path, event.sizeBytes);
        return undefined;
      case 'fetched':
        totals.doneFiles++;
        there.set(event.path, event.sizeBytes);
        return undefined;
      case 'failed':
        return `failed ${event.path}: ${event.error.code}: ${event.error.message}`;
      case 'retry':
        return `${event.path}: ${event.error.message}; retrying in ${event.pauseMs / 1000} s`;
    }
  };
  const display: TotalsDisplay = showTotals(host, progressStream(terminal), describe);
  const onEvent = (event: FetchEvent): void => {
    const line = take(event);
    if (line !== undefined) display.say(line);
  };
  return { onEvent, [Symbol.dispose]: () => display[Symbol.dispose]() };
}

function sum(sizes: ReadonlyMap<string, number>): number {
  return [...sizes.values()].reduce((total, one) => total + one, 0);
}
