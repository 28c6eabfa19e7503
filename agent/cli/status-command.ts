import { setTimeout as sleep } from 'node:timers/promises';
import { own } from '../host/text-stream.ts';
import { shortDigests } from '../model/digest.ts';
import { PrestageError } from '../model/errors.ts';
import type { StatusReport } from '../status/assess.ts';
import { collectStatus } from '../status/collect.ts';
import { collectImageStatus } from '../status/image-look.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, type SettingFlags, type Terminal } from './context.ts';
import { imageText } from './image-text.ts';
import { type Answer, OUTPUT_FORMS, type OutputForm, painter, render } from './output.ts';
import { isLiveTerminal, screenOf } from './screen.ts';
import { settingFlags, settingsOf } from './setting-flags.ts';
import { statusText } from './status-text.ts';

const WATCH_PERIOD_MS = 1000;

/** `prestage-agent status`: how the last run ended, or its progress. */
export const statusCommand: CommandSpec = {
  name: 'status',
  summary: 'Show how the last run ended, or its progress',
  description:
    'Show how the last run ended, or its progress: the verdict, the next step, and the images that are not usable, by cause. On a console it is one screen. Changes nothing.',
  flags: [
    ...settingFlags(['root']),
    { usage: '--watch', help: 'update every second until the run has ended' },
    { usage: '--all', help: 'list all images, also those that are usable, and every line' },
    { usage: '--image <reference>', help: 'show whether podman and CRI-O can get this image here, from where, and by which policy' },
  ],
  forms: OUTPUT_FORMS,
  examples: [
    'prestage-agent status',
    'prestage-agent status --watch',
    'prestage-agent status --all',
    'prestage-agent status --output json',
    'prestage-agent status --image quay.io/openshift-release-dev/ocp-release:4.22.3-x86_64',
  ],
  answer: async (terminal, options) => {
    const output = OUTPUT_FORMS.find((form) => form === options.output) ?? 'text';
    if (typeof options.image === 'string') return await answerImage(terminal, options.image, options);
    return await answerStatus(terminal, { ...settingsOf(options), watch: options.watch === true, all: options.all === true, output });
  },
};

async function answerStatus(
  terminal: Terminal,
  flags: SettingFlags & { readonly watch: boolean; readonly all: boolean; readonly output: OutputForm },
): Promise<Answer> {
  const host = hostFor(terminal, flags);
  const { out, stop, env } = terminal;
  const isLive = flags.output === 'text' && isLiveTerminal(out, env);
  const paint = painter(terminal);
  const textOf = (report: StatusReport, all: boolean): string =>
    statusText(report, { now: host.clock.now(), all, ...(out.isTTY === true && { screen: screenOf(out) }) }, paint);
  for (let isFirst = true; ; isFirst = false) {
    const report = await collectStatus(host);
    const isLast = !flags.watch || report.status.readiness !== 'running' || stop.aborted;
    // The last picture takes the place of the one before it.
    if (isLast && !isFirst && isLive) out.write(own(HOME_AND_ERASE));
    if (isLast) return { data: report, text: textOf(report, flags.all), exitCode: report.status.exitCode };
    if (isLive) out.write(redrawn(textOf(report, false)));
    else out.write(render({ data: report, text: textOf(report, flags.all) }, flags.output));
    await sleep(WATCH_PERIOD_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}

/** Source: ECMA-48, CUP (`ESC [ H`), EL (`ESC [ K`) and ED (`ESC [ J`). */
const HOME_AND_ERASE = '\u001b[H\u001b[J';

/** A picture over the one before it, without flicker: each line erases the rest of its row, and the last one what is below. */
function redrawn(text: string): string {
  return `${own('\u001b[H')}${text.replaceAll('\n', `${own('\u001b[K')}\n`)}${own('\u001b[K')}\n${own('\u001b[J')}`;
}

async function answerImage(terminal: Terminal, reference: string, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  if (options.watch === true) throw new PrestageError('ERR_USAGE', '--image and --watch cannot be combined', 'Use only one of them');
  const report = await collectImageStatus(hostFor(terminal, settingsOf(options)), reference);
  const text = imageText(report, painter(terminal));
  return { data: report, text: terminal.out.isTTY === true ? shortDigests(text) : text, exitCode: report.image.exitCode };
}
