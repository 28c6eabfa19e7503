import { ALL_SUBJECTS, type Cause, causeLines, SHOWN_SUBJECTS } from '../model/causes.ts';
import { shortDigests } from '../model/digest.ts';
import type { Paint, Style } from './output.ts';
import { heightOf, type Screen, wrapText } from './screen.ts';

/** A part of a status: a line, which takes one or more rows of a console. */
export interface Part {
  readonly text: string;
  /** Most rows on a console; as many as it needs if left out. */
  readonly most?: number;
  /** A word at its begin that has a style. */
  readonly mark?: readonly [Style, string];
}

export interface StatusParts {
  /** Always shown. */
  readonly head: readonly Part[];
  /** The most important first. */
  readonly details: readonly Part[];
  readonly causes: readonly Cause[];
  readonly nameOf: (subject: string) => string;
}

/** A line of the answer. */
type Line = Pick<Part, 'text' | 'mark'>;

const INDENT = ' '.repeat(11);
/** Details that are kept even if images would need their rows. */
const KEPT_DETAILS = 2;
const MORE = '--all lists all';

/** Every part, wrapped if there is a console, and never cut. Pure. */
export function wholeText(parts: readonly Part[], screen: Screen | undefined, paint: Paint): string {
  return paintedText(
    parts.flatMap((part) => (screen === undefined ? [part] : wrapped(part, screen, INDENT))),
    paint,
  );
}

/** The short form where there is no console. Pure. */
export function plainText({ head, details, causes, nameOf }: StatusParts, paint: Paint): string {
  const form = { most: SHOWN_SUBJECTS, more: ALL_SUBJECTS };
  return paintedText([...head, ...details, ...causes.flatMap((cause) => linesOf(cause, form, nameOf))], paint);
}

/** The short form, with no more rows than the console has beside the one for the next prompt. Pure. */
export function fitText({ head, details, causes, nameOf }: StatusParts, screen: Screen, paint: Paint): string {
  const rows = screen.rows - 1;
  const top = head.flatMap((part) => cut(part, screen));
  const blocks = (most: number): readonly (readonly Line[])[] =>
    causes.map((cause) => linesOf(cause, { most, more: MORE }, nameOf).flatMap((line) => wrapped(line, screen, '      ')));
  const wanted = rowsOf(blocks(SHOWN_SUBJECTS).flat(), screen);
  const beside = fitting(
    details.map((part) => cut(part, screen)),
    { rows: rows - rowsOf(top, screen), wanted, screen },
  );
  const left = rows - rowsOf([...top, ...beside], screen);
  const lines = [...top, ...beside, ...imageLines(causes, blocks, { rows: left, screen })];
  const end = lines.findIndex((_, index) => rowsOf(lines.slice(0, index + 1), screen) > rows);
  return paintedText(end < 0 ? lines : lines.slice(0, end), paint);
}

/** The first details that leave the wanted rows to the images, at least a few, and how many are left out. */
function fitting(
  details: readonly (readonly Line[])[],
  { rows, wanted, screen }: { readonly rows: number; readonly wanted: number; readonly screen: Screen },
): readonly Line[] {
  const note = (count: number): readonly Line[] =>
    count === details.length ? [] : [{ text: `more:      ${details.length - count} more lines: ${MORE}` }];
  const shown = (count: number): readonly Line[] => [...details.slice(0, count).flat(), ...note(count)];
  const fits = (count: number): boolean => rowsOf(shown(count), screen) + (count <= KEPT_DETAILS ? Math.min(wanted, 1) : wanted) <= rows;
  return shown(details.map((_, index) => details.length - index).find(fits) ?? 0);
}

/** The causes with as many images as fit; if not even all causes fit, the first ones and the number of the other images. */
function imageLines(
  causes: readonly Cause[],
  blocks: (most: number) => readonly (readonly Line[])[],
  { rows, screen }: { readonly rows: number; readonly screen: Screen },
): readonly Line[] {
  const most = Math.min(rows, Math.max(0, ...causes.map(({ faults }) => faults.length)));
  for (let count = most; count >= 0; count--) {
    const lines = blocks(count).flat();
    if (rowsOf(lines, screen) <= rows) return lines;
  }
  const short = blocks(0);
  const whole = short.map((_, index) => short.length - index).find((count) => rowsOf(short.slice(0, count).flat(), screen) < rows) ?? 0;
  const others = causes.slice(whole).reduce((sum, { faults }) => sum + faults.length, 0);
  return [...short.slice(0, whole).flat(), { text: `  … and ${others} more images that are not usable: ${MORE}` }];
}

function linesOf(cause: Cause, form: Parameters<typeof causeLines>[1], nameOf: StatusParts['nameOf']): readonly Line[] {
  const { state, faults } = cause;
  const style = state === 'failed' || state === 'missing' ? 'bad' : 'warn';
  const mark = [style, faults.length === 1 ? state : `${faults.length} ${state}`] as const;
  return causeLines(cause, form, nameOf).map((text, index) => (index === 0 ? { text, mark } : { text }));
}

function rowsOf(lines: readonly Line[], screen: Screen): number {
  return heightOf(
    lines.map(({ text }) => text),
    screen,
  );
}

/** A command that is to be typed keeps its digests. */
function wrapped({ text, mark }: Line, screen: Screen, indent: string): readonly Line[] {
  const lines = wrapText(text.includes('next: ') ? text : shortDigests(text), screen, indent);
  return lines.map((line, index) => ({ text: line, ...(index === 0 && mark && { mark }) }));
}

/** The rows of a part, cut to its limit. */
function cut(part: Part, screen: Screen): readonly Line[] {
  const lines = wrapped(part, screen, INDENT);
  const { most = Number.POSITIVE_INFINITY } = part;
  const count = lines.findIndex((_, index) => rowsOf(lines.slice(0, index + 1), screen) > most);
  if (count < 0) return lines;
  const shown = lines.slice(0, Math.max(1, count));
  const last = shown.length - 1;
  return shown.map((line, index) => (index === last ? { ...line, text: cutEnd(line.text.slice(0, most * screen.columns), screen) } : line));
}

/** The line with an ellipsis at the end of its last row. */
function cutEnd(line: string, { columns }: Screen): string {
  return `${line.slice(0, Math.ceil(line.length / columns) * columns - 2)} …`;
}

function paintedText(lines: readonly Line[], paint: Paint): string {
  return lines.map(({ text, mark }) => (mark === undefined ? text : text.replace(mark[1], () => paint(...mark)))).join('\n');
}
