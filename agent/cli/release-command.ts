import { errorRecord, exitCodeOf } from '../model/errors.ts';
import { locateStorage } from '../storage/location.ts';
import type { StepOutcome } from '../undo/execute.ts';
import type { UndoPlan } from '../undo/plan.ts';
import { release, type UndoReport } from '../undo/undo.ts';
import type { CommandSpec } from './command-spec.ts';
import { confirmPlan } from './confirm.ts';
import { actFor, hostFor, settingsFor, type Terminal } from './context.ts';
import type { Answer } from './output.ts';
import { requireRoot } from './require-root.ts';
import { dryRunFlag, settingFlags, settingsOf } from './setting-flags.ts';

/** `prestage-agent release`: undoes the setup of the agent on this node. */
export const releaseCommand: CommandSpec = {
  name: 'release',
  alias: 'undo',
  summary: 'Undo what the agent has set up on this node',
  description:
    'Undo what the agent has set up on this node: registry, engine configuration, mounts, copies, and image records that would dangle. The plan is shown first.',
  flags: [
    {
      usage: '--keep-images',
      help: 'first copy images that running containers use out of the store image, so that these containers keep running and can restart',
    },
    { usage: '--yes', help: 'do not ask for confirmation' },
    ...settingFlags(['graphroot', 'runroot', 'root', 'lock-wait']),
    dryRunFlag,
  ],
  forms: ['text', 'json'],
  examples: ['prestage-agent release --dry-run', 'prestage-agent release --yes', 'prestage-agent release --keep-images --yes'],
  answer: async (terminal, options) => await answerRelease(terminal, options),
};

async function answerRelease(terminal: Terminal, options: Readonly<Record<string, unknown>>): Promise<Answer> {
  const flags = settingsOf(options);
  const host = hostFor(terminal, flags);
  requireRoot(host, 'release', 'looks at mounts, storage and files of root, and changes them');
  const settings = await settingsFor(host, flags);
  const isDry = options.dryRun === true;
  const report = await release(host, {
    location: await locateStorage(host, {
      ...(settings.graphroot && { graphroot: settings.graphroot }),
      ...(settings.runroot && { runroot: settings.runroot }),
    }),
    keepImages: options.keepImages === true,
    isDry,
    lockWaitSeconds: settings.lockWaitSeconds,
    act: actFor(terminal, host),
    signal: terminal.stop,
    confirm: async (plan) => await confirmPlan(terminal, { plan: planText(plan), word: 'release' }, options.yes === true),
  });
  const failed = report.outcomes.some(({ result }) => result === 'failed' || result === 'skipped');
  return {
    data: releaseData(report, isDry),
    text: releaseText(report, isDry),
    exitCode: report.plan.refusal?.exitCode ?? (failed ? exitCodeOf('ERR_RELEASE_STEP') : 0),
  };
}

const NOTHING = 'nothing to undo';

function planText({ groups, notices, refusal }: UndoPlan): string {
  const steps = groups.flatMap((group) => group.steps.map(({ text }) => `  ${text}`));
  return [
    ...(steps.length === 0 ? [NOTHING] : ['to undo:', ...steps]),
    ...notices.map((notice) => `notice: ${notice}`),
    ...refusalLines(refusal),
  ].join('\n');
}

function refusalLines(refusal: UndoPlan['refusal']): readonly string[] {
  if (refusal === undefined) return [];
  return [`not now: ${refusal.code}: ${refusal.message}`, `next: ${refusal.remedy}`];
}

function releaseText({ plan, outcomes }: UndoReport, isDry: boolean): string {
  if (isDry) return `${planText(plan)}\nnothing was changed`;
  if (plan.groups.length === 0) return planText(plan);
  const isWhole = outcomes.every(({ result }) => result === 'done' || result === 'left');
  const end = isWhole ? 'released' : 'not everything was undone; remove the cause, then run the command again';
  return [...outcomes.flatMap(outcomeLines), ...plan.notices.map((notice) => `notice: ${notice}`), end].join('\n');
}

function outcomeLines(outcome: StepOutcome): readonly string[] {
  const line = `  ${outcome.result.padEnd(7)} ${outcome.text}`;
  if (outcome.result === 'done') return [line];
  if (outcome.result !== 'failed') return [line, `          ${outcome.reason}`];
  return [line, `          ${outcome.error.code}: ${outcome.error.message}`, `          next: ${outcome.error.remedy}`];
}

function releaseData({ plan, outcomes }: UndoReport, isDry: boolean): unknown {
  const planned = plan.groups.flatMap(({ name, steps }) => steps.map(({ text }) => ({ group: name, text })));
  return {
    apiVersion: 'prestage-agent/v1',
    kind: isDry ? 'UndoPlan' : 'Release',
    steps: isDry ? planned : outcomes,
    notices: plan.notices,
    ...(plan.refusal && { refusal: errorRecord(plan.refusal) }),
  };
}
