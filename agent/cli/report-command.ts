import { resolve } from 'node:path';
import { formatBytes } from '../model/bytes.ts';
import { PrestageError } from '../model/errors.ts';
import { makeReport, type ReportEntry } from '../status/report.ts';
import { writeReportDirectory, writeReportFile } from '../status/report-write.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type Terminal } from './context.ts';
import type { Answer } from './output.ts';
import { settingFlags, settingsOf } from './setting-flags.ts';

/** `prestage-agent report`: everything that a support ticket needs, in one file. */
export const reportCommand: CommandSpec = {
  name: 'report',
  summary: 'Collect the data for a support ticket',
  description:
    'Collect the data for a support ticket: status, records, settings, versions, mounts, journal, engine configuration. Changes nothing on the node. Logins, keys and tokens are left out; still, look through the report before you share it.',
  flags: [
    { usage: '--output-file <file>', help: 'tar.gz archive to write (default: prestage-report-TIME.tar.gz)' },
    { usage: '--directory <dir>', help: 'write the files to a new directory instead' },
    ...settingFlags(['root']),
  ],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent report',
    'prestage-agent report --output-file /tmp/node1.tar.gz',
    'prestage-agent report --directory ./report',
  ],
  answer: answerReport,
};

async function answerReport(terminal: Terminal, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  const { outputFile, directory } = options;
  if (outputFile !== undefined && directory !== undefined)
    throw new PrestageError('ERR_USAGE', '--output-file and --directory cannot be combined', 'Use only one of them');
  const host = hostFor(terminal, settingsOf(options));
  const report = await makeReport(host);
  const asked = typeof directory === 'string' ? directory : outputFile;
  const usual = `prestage-report-${report.index.madeAt.replaceAll(/[-:]|\.\d+/g, '')}.tar.gz`;
  const path = resolve(typeof asked === 'string' ? asked : usual);
  if (directory === undefined) await writeReportFile(host, report, path);
  else await writeReportDirectory(report, path);
  return { data: { ...report.index, path }, text: reportText(path, report.index.parts), exitCode: 0 };
}

function reportText(path: string, parts: readonly ReportEntry[]): string {
  const lines = parts.map(({ name, sizeBytes, cutBytes, fault }) => {
    if (fault !== undefined) return `  ${'-'.padStart(10)}  ${name}: ${fault.split('\n')[0]}`;
    return `  ${formatBytes(sizeBytes).padStart(10)}  ${name}${cutBytes === undefined ? '' : ` (${formatBytes(cutBytes)} left out)`}`;
  });
  return [`${path} contains:`, ...lines].join('\n');
}
