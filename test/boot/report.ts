import { formatBytes } from '../../agent/model/bytes.ts';
import type { FigureKind, KeptFigures } from '../support/figures.ts';
import type { KeptLife } from '../support/vm-life.ts';
import type { BootRecord, Outcome } from './trial.ts';

/** What a report of the boot tests tells. */
export interface BootReport {
  /** When the run ended, ISO 8601. */
  readonly at: string;
  readonly commit: string;
  /** What was used, and in which version. */
  readonly versions: Readonly<Record<string, string>>;
  readonly outcomes: readonly Outcome[];
  /** Scenarios that went on at a time. */
  readonly jobs: number;
  /** Scenarios that there are, and of which some can have been left out. */
  readonly scenarioCount: number;
  readonly figures: readonly KeptFigures[];
  /** Undefined where none was gone through. */
  readonly life: KeptLife | undefined;
  /** Pictures beside the report. */
  readonly pictures: readonly { readonly title: string; readonly file: string }[];
}

const TRIED: Readonly<Record<FigureKind, string>> = {
  crash: 'a command is killed before and after each step that changes something',
  kills: 'a command is killed at a random moment',
  power: 'the power of an XFS or ext4 disk is cut at a random moment',
  faults: 'one call of a run fails: read, write, fsync, rename, mount, exec…',
  soak: 'a node boots after a clean or an unclean stop, also with its storage wiped',
  vm: 'the disk of a virtual machine takes no more writes from a random moment on, and the machine is killed',
};

/** The report as Markdown. Pure. */
export function renderReport(report: BootReport): string {
  const { at, commit, outcomes, scenarioCount, pictures } = report;
  const failed = outcomes.filter(({ ok }) => !ok);
  const left = scenarioCount - outcomes.length;
  const result = `${outcomes.length - failed.length} of ${outcomes.length} scenarios passed.`;
  const notes = [...new Set(outcomes.flatMap((outcome) => outcome.notes))];
  const sections = [
    '# Boot report',
    `Made by \`npm run test:boot -- --report\` on ${dayOf(at)}, for commit ${commit}; [CONTRIBUTING.md](../CONTRIBUTING.md) explains how.\nDo not edit it.`,
    `**${result}**${left > 0 ? ` ${left} more were not run.` : ''}`,
    table(['what', 'version'], Object.entries(report.versions)),
    '## Machines that booted',
    `Each scenario is a machine of its own with a real systemd and the real Ignition, in a network that leads nowhere.
The time is that of the agent's unit in each boot, from its start to ready, with ${report.jobs === 1 ? 'one scenario' : `${report.jobs} scenarios`} at a time.
The memory is the sampled peak of all processes of the unit together: anonymous and shared pages, without pages of files.`,
    table(['scenario', 'outcome', 'boots', 'seconds from start to ready', 'peak memory'], outcomes.map(outcomeCells)),
    ...failed.map(({ name, failure = '' }) => `* **${name}**: ${cell(failure.split('\n')[0] ?? '')}`),
    ...notes.map((note) => `* ${cell(note)}`),
    ...lifeLines(report.life),
    '## Kills, power cuts and failing calls',
    'A case has recovered if the same command, given again, completed without any manual repair, with every image intact.\nNothing may be lost.',
    table(['what', 'command', 'tried', 'recovered', 'lost', 'when', 'commit'], figureRows(report.figures)),
    ...(pictures.length === 0 ? [] : ['## Where the time of a boot goes', ...pictures.map(({ title, file }) => `![${title}](${file})`)]),
  ];
  return `${sections.join('\n\n')}\n`;
}

function lifeLines(life: KeptLife | undefined): readonly string[] {
  const about =
    'Kernel, udev, device-mapper and the disk with its GPT are real there, and the store image is behind dm-verity.\nThe processor is emulated, about ten times slower than a real one.';
  const end =
    life === undefined
      ? 'It was not run.'
      : `It ${life.isWell ? 'passed' : '**failed**'} on ${dayOf(life.at)}, with commit ${life.commit}.`;
  return [
    '## One life in a virtual machine',
    `\`npm run test:vm\`: factory, discovery, installation, first boot with the pivot, later boots, and boots with a damaged store image.\n${about}\n${end}`,
    ...(life === undefined ? [] : [life.notes.map((note) => `* ${cell(note)}`).join('\n')]),
  ];
}

function outcomeCells({ name, ok, boots }: Outcome): readonly string[] {
  const peaks = boots.flatMap(({ peakMemoryBytes }) => peakMemoryBytes ?? []);
  const memory = peaks.length === 0 ? '' : formatBytes(Math.max(...peaks));
  return [name, ok ? 'ok' : '**failed**', String(boots.length), bootTimes(boots), memory];
}

/** Boot by boot; boots that differ by their number alone are one range. */
function bootTimes(boots: readonly BootRecord[]): string {
  const groups: { readonly name: string; readonly boots: BootRecord[] }[] = [];
  for (const boot of boots) {
    const name = boot.what.replace(/ \d+$/, '');
    const last = groups.at(-1);
    if (last?.name === name) last.boots.push(boot);
    else groups.push({ name, boots: [boot] });
  }
  return groups.map(({ name, boots: alike }) => `${groupName(name, alike)}: ${rangeOf(alike)}`).join('; ');
}

function groupName(name: string, boots: readonly BootRecord[]): string {
  const [first, last] = [boots[0]?.what ?? name, boots.at(-1)?.what ?? name];
  return first === last ? first : `${first} to ${last.slice(name.length + 1)}`;
}

function rangeOf(boots: readonly BootRecord[]): string {
  const seconds = boots.flatMap(({ secondsUnitToReady }) => secondsUnitToReady ?? []);
  if (seconds.length === 0) return '–';
  const [least, most] = [Math.min(...seconds).toFixed(2), Math.max(...seconds).toFixed(2)];
  return least === most ? least : `${least}–${most}`;
}

/** A row for each kind, whether it was run or not; scenarios of a kind may be of several runs. */
function figureRows(figures: readonly KeptFigures[]): readonly (readonly string[])[] {
  return Object.entries(TRIED).map(([kind, what]) => {
    const own = figures.filter((one) => one.kind === kind);
    const command = `\`npm run test:${kind}\``;
    if (own.length === 0) return [what, command, 'not run', '', '', '', ''];
    const sum = (key: 'tried' | 'recovered' | 'lost'): string => String(own.reduce((total, one) => total + one[key], 0));
    const days = unique(own.map(({ at }) => dayOf(at)));
    const commits = unique(own.map(({ commit }) => commit));
    const when = days.length > 1 ? `${days[0]} to ${days.at(-1)}` : (days[0] ?? '');
    return [
      `${what} (${own.length === 1 ? 'one scenario' : `${own.length} scenarios`})`,
      command,
      sum('tried'),
      sum('recovered'),
      sum('lost'),
      when,
      commits.join(', '),
    ];
  });
}

function unique(texts: readonly string[]): readonly string[] {
  return [...new Set(texts)].toSorted();
}

function dayOf(at: string): string {
  return at.slice(0, 10);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.map(cell).join(' | ')} |`).join('\n');
}

/** Text that neither ends a cell nor a line. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ');
}
