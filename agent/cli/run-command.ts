import type { LoadStep, PlanStep } from '../load/plan.ts';
import { formatBytes, formatDuration } from '../model/bytes.ts';
import { faultText, fromRegistry } from '../model/causes.ts';
import { errorRecord, exitCodeOf, exitCodes, PrestageError, TOLERATED } from '../model/errors.ts';
import { countStates, type RunState } from '../model/run-state.ts';
import { type Policy, SETTING_KEYS } from '../model/setting-table.ts';
import { type RunReport, run } from '../run/run.ts';
import type { CommandSpec } from './command-spec.ts';
import { actFor, hostFor, progressStream, type SettingFlags, settingsFor, type Terminal } from './context.ts';
import { type Answer, ExitWith } from './output.ts';
import { requireRoot } from './require-root.ts';
import { allFlag, dryRunFlag, quietFlag, settingFlags, settingsOf } from './setting-flags.ts';
import { showProgress } from './show-progress.ts';

/** `prestage-agent run`: makes the images of a stage available, or with `--dry-run` prints what it would do. */
export const runCommand: CommandSpec = {
  name: 'run',
  summary: 'Make the images of a stage available on this node',
  description:
    'Make the images of a stage on the data partition available: load them into containers-storage, serve them from a registry, or mount them. Existing images are kept.',
  flags: [...settingFlags(SETTING_KEYS), quietFlag, allFlag, dryRunFlag],
  forms: ['text', 'json'],
  examples: [
    'prestage-agent run --stage discovery',
    'prestage-agent run --stage installed --dry-run',
    'prestage-agent run --stage installed --bundle /mnt/data --parallel 4',
  ],
  answer: async (terminal, options) =>
    await answerRun(terminal, { ...settingsOf(options), dryRun: options.dryRun === true, all: options.all === true }),
};

async function answerRun(terminal: Terminal, flags: SettingFlags & { readonly dryRun?: boolean; readonly all: boolean }): Promise<Answer> {
  const host = hostFor(terminal, flags);
  const settings = await settingsFor(host, flags);
  if (settings.stage === undefined) {
    throw new PrestageError(
      'ERR_USAGE',
      'no stage is given',
      'Give --stage discovery or --stage installed, or set it in /etc/prestage-agent/config.yaml',
    );
  }
  requireRoot(host, 'run', 'mounts the data partition, and changes storage and files of root');
  using display = showProgress(host, progressStream(terminal));
  const tolerant = settings.policy === 'open' && flags.dryRun !== true;
  const report = await run(host, {
    settings: { ...settings, stage: settings.stage },
    act: actFor(terminal, host),
    stop: terminal.stop,
    kill: terminal.kill,
    onEvent: display.onEvent,
    isDry: flags.dryRun === true,
  }).catch((error: unknown) => {
    throw tolerant ? new ExitWith(tolerate(exitCodeOf(errorRecord(error).code)), error) : error;
  });
  if (flags.dryRun === true)
    return {
      data: planData(report),
      text: planText(report),
      exitCode: report.state.error === undefined ? 0 : exitCodeOf(report.state.error.code),
    };
  return { data: report.state, text: runText(report.state, flags.all), exitCode: exitCodeOfRun(report.state, settings.policy) };
}

/** The exit code of a run: how it really ended, marked as tolerated if the policy lets the boot continue. Pure. */
function exitCodeOfRun(state: Pick<RunState, 'outcome' | 'error'>, policy: Policy): number {
  const code = state.error !== undefined ? exitCodeOf(state.error.code) : outcomeCode(state.outcome);
  return policy === 'closed' ? code : tolerate(code);
}

function tolerate(code: number): number {
  return code < exitCodes.partial ? code : code + TOLERATED;
}

function outcomeCode(outcome: RunState['outcome']): number {
  if (outcome === 'complete') return 0;
  return exitCodes[outcome ?? 'internal'];
}

/** The result of a run as text for people. What its error says is not said again for each image. Pure. */
export function runText(state: RunState, all: boolean): string {
  const counts = countStates(state.images);
  const figures = Object.entries(counts).flatMap(([name, count]) => (count === 0 ? [] : [`${count} ${name}`]));
  const head = `${state.outcome}: ${figures.join(', ') || 'no images'} in ${formatDuration(state.durationMs ?? 0)} (stage ${state.stage})`;
  const faults = state.images.flatMap(({ state: word, reference, error }) =>
    error === undefined || error.message === state.error?.message || error.code === 'ERR_INTERRUPTED'
      ? []
      : [{ state: word, subject: reference, place: fromRegistry(reference), ...error }],
  );
  const { error } = state;
  const isStop = error?.code === 'ERR_INTERRUPTED';
  return [
    isStop ? `${head}; next: ${error.remedy}` : head,
    ...(error === undefined || isStop ? [] : [`  ${error.code}: ${error.message}`, `  next: ${error.remedy}`]),
    ...faultText(faults, all),
  ].join('\n');
}

function planData(report: RunReport): unknown {
  return {
    apiVersion: 'prestage-agent/v1',
    kind: 'Plan',
    stage: report.state.stage,
    ...(report.state.error && { error: report.state.error }),
    ...(report.needs && { needs: report.needs }),
    ...(report.setup.length > 0 && { setup: report.setup }),
    steps: report.steps.map((step) =>
      step.kind === 'load'
        ? loadData(step)
        : step.kind === 'keep'
          ? { kind: step.kind, reference: step.image.reference }
          : { kind: step.kind, ...step.image },
    ),
  };
}

function loadData(step: LoadStep): unknown {
  return {
    kind: step.kind,
    reference: step.image.reference,
    names: step.image.names,
    layers: step.writes.map((layer) => layer.digest),
    bytes: step.writeBytes,
    after: step.after,
    replaces: step.replaces.map((replaced) => ({ id: replaced.image.id, reason: replaced.reason })),
  };
}

function planText(report: RunReport): string {
  const { needs, state } = report;
  const lines = report.steps.map(planLine);
  const figures =
    needs === undefined
      ? []
      : [
          `${needs.parallel} at a time; storage grows by about ${formatBytes(needs.storageBytes)}, scratch space needed: ${formatBytes(needs.scratchBytes)}`,
        ];
  const error =
    state.error === undefined
      ? []
      : [
          `${report.setup.length > 0 ? 'would end with an error' : 'would not start'}: ${state.error.message}`,
          `  ${state.error.code}; next: ${state.error.remedy}`,
        ];
  return [...report.setup, ...lines, ...figures, ...error, 'nothing was written'].join('\n');
}

function planLine(step: PlanStep): string {
  if (step.kind === 'keep') return `keep    ${step.image.reference}`;
  if (step.kind === 'refuse') return `refuse  ${step.image.reference}: ${step.image.error.message}`;
  const after = step.after.length === 0 ? '' : `, after ${step.after.join(' and ')}`;
  const replaces = step.replaces.map((replaced) => `, replaces ${replaced.image.id.slice(0, 12)}: ${replaced.reason}`).join('');
  return `load    ${step.image.reference} (${step.writes.length} layers, ${formatBytes(step.writeBytes)}${after}${replaces})`;
}
