import type { BootTimeline, UnitSpan } from './timeline.ts';

/** One line of the picture. */
interface Row {
  readonly label: string;
  readonly kind: 'unit' | 'ours' | 'phase' | 'step';
  readonly startMs: number;
  /** Undefined where it had not ended. */
  readonly endMs?: number | undefined;
  readonly hasFailed?: boolean;
}

/** In pixels. The width is that of a page of text, and the longest name of a unit fits into the first column. */
const WIDTH = 1000;
const LABELS = 290;
const RIGHT = 120;
const TOP = 64;
const ROW = 22;
const BAR = 12;
/** At most so many lines of the grid. */
const TICKS = 10;
/** Steps that take less of our unit's time than this say nothing. */
const LEAST_SHARE = 0.01;

/** A background of its own, so that dark viewers show it, too. The colours can be told apart without seeing red and green. */
const COLOURS = { unit: '#8c959f', ours: '#0550ae', phase: '#218bff', step: '#80ccff', failed: '#bc4c00' } as const;
const INDENT = { unit: 0, ours: 0, phase: 16, step: 32 } as const;

/** A boot as a picture: a bar for each unit, and below that of the agent what it was about. Pure. */
export function renderTimeline(title: string, timeline: BootTimeline): string {
  const rows = rowsOf(timeline);
  const lastMs = Math.max(1, ...rows.map(({ startMs, endMs }) => endMs ?? startMs));
  const scale = (ms: number): number => round(LABELS + (ms / lastMs) * (WIDTH - LABELS - RIGHT));
  const bottom = TOP + rows.length * ROW;
  const height = bottom + 24;
  const ticks = ticksOf(lastMs).map((ms) =>
    [
      `<line x1="${scale(ms)}" y1="${TOP - 8}" x2="${scale(ms)}" y2="${bottom}" stroke="#d0d7de"/>`,
      `<text x="${scale(ms)}" y="${TOP - 14}" text-anchor="middle" fill="#57606a">${ms / 1000} s</text>`,
    ].join('\n'),
  );
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<text x="12" y="24" font-size="15" font-weight="bold" fill="#1f2328">${escapeXml(title)}</text>`,
    ...ticks,
    ...rows.map((row, index) => renderRow(row, { y: TOP + index * ROW, scale, lastMs })),
    `<text x="12" y="${bottom + 12}" font-size="11" fill="#57606a">Steps of the agent that took less than ${LEAST_SHARE * 100} % of the time of its unit are left out.</text>`,
    '</svg>',
  ].join('\n')}\n`;
}

interface Place {
  readonly y: number;
  readonly scale: (ms: number) => number;
  readonly lastMs: number;
}

function renderRow({ label, kind, startMs, endMs, hasFailed }: Row, { y, scale, lastMs }: Place): string {
  const [from, to] = [scale(startMs), scale(endMs ?? lastMs)];
  const width = Math.max(2, round(to - from));
  const took = endMs === undefined ? 'not ended' : formatMs(endMs - startMs);
  const text = escapeXml(hasFailed ? `failed after ${took}` : took);
  const baseline = y + BAR - 1;
  const weight = kind === 'ours' ? ' font-weight="bold"' : '';
  return [
    `<text x="${12 + INDENT[kind]}" y="${baseline}" fill="#1f2328"${weight}>${escapeXml(label)}</text>`,
    `<rect x="${from}" y="${y}" width="${width}" height="${BAR}" fill="${hasFailed ? COLOURS.failed : COLOURS[kind]}"/>`,
    `<text x="${round(from + width + 6)}" y="${baseline}" fill="#1f2328">${text}</text>`,
  ].join('\n');
}

function rowsOf(timeline: BootTimeline): readonly Row[] {
  return timeline.units.flatMap((unit): readonly Row[] => {
    const { name, ...span } = unit;
    if (name !== timeline.ours) return [{ label: name, kind: 'unit', ...span }];
    return [{ label: name, kind: 'ours', ...span }, ...agentRows(unit, timeline)];
  });
}

/** What comes before the agent itself, then its phases, each with the steps that began in it. */
function agentRows(ours: UnitSpan, { run }: BootTimeline): readonly Row[] {
  if (run === undefined) return [];
  const { phases, steps } = run.timeline;
  const leastMs = LEAST_SHARE * ((ours.endMs ?? ours.startMs) - ours.startMs);
  const at = (ms: number): number => ms + run.startMs;
  const rows = phases.flatMap(({ name, startMs, endMs }, index): readonly Row[] => {
    const nextMs = phases[index + 1]?.startMs ?? Number.POSITIVE_INFINITY;
    const within = steps.filter((step) => step.startMs >= startMs && step.startMs < nextMs && step.endMs - step.startMs >= leastMs);
    const phase: Row = { label: name.replaceAll('-', ' '), kind: 'phase', startMs: at(startMs), endMs: endMs && at(endMs) };
    const stepRows = within
      .toSorted((a, b) => a.startMs - b.startMs)
      .map(
        (step): Row => ({
          label: step.count === 1 ? step.name : `${step.name} (${step.count} times)`,
          kind: 'step',
          startMs: at(step.startMs),
          endMs: at(step.endMs),
        }),
      );
    return [phase, ...stepRows];
  });
  return [{ label: 'launcher and start of the executable', kind: 'phase', startMs: ours.startMs, endMs: run.startMs }, ...rows];
}

/** Times at which the grid has lines: 1, 2 or 5 of a power of ten apart. */
function ticksOf(lastMs: number): readonly number[] {
  const steps = [100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000];
  const step = steps.find((ms) => lastMs / ms <= TICKS) ?? 100_000;
  return Array.from({ length: Math.floor(lastMs / step) + 1 }, (_, index) => index * step);
}

export function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
