import type { TextStream } from '../host/text-stream.ts';
import { visible } from '../model/visible.ts';

/** The size of a console, in characters. */
export interface Screen {
  readonly columns: number;
  readonly rows: number;
}

/** No line that is cut is shorter than this, however narrow the console. */
const LEAST_COLUMNS = 20;
/** Columns that a line leaves free at the end of its row, so that the terminal does not wrap it. */
export const SPARE_COLUMNS = 1;
/** The same if the cursor stays behind the line: the terminal shows `^C` there. */
export const SPARE_FOR_ECHO = 3;

/** The size of the console behind a stream: 80x24 if it is unknown. A serial console has no size: it reports 0. */
export function screenOf(stream: Pick<TextStream, 'columns' | 'rows'>): Screen {
  return { columns: stream.columns || 80, rows: stream.rows || 24 };
}

/** Whether a stream is a terminal that moves its cursor. */
export function isLiveTerminal(stream: Pick<TextStream, 'isTTY'>, env: Readonly<Record<string, string | undefined>>): boolean {
  return stream.isTTY === true && env.TERM !== 'dumb';
}

/** One live line, cut so that it never wraps. */
export function cutLine(text: string, { columns }: Pick<Screen, 'columns'>, spare: number): string {
  const width = Math.max(LEAST_COLUMNS, columns - spare);
  return text.length > width ? `${text.slice(0, width - 1)}…` : text;
}

/** Commands in a text: whoever copies them needs them in one piece. */
const COMMAND =
  /(?:sudo )?prestage-agent [a-z-]+(?: [a-z/.][^\s;,]*)?(?: --[a-z-]+(?: [^\s;,-][^\s;,]*)?)*|(?:systemctl|journalctl)(?: [^\s;,]+){1,4}/g;
/** Stands for a space that no line ends at. */
const TIED = '\0';

/** The lines of a text on a console: broken between words. A command, or a word that is too long (a path, a reference), stays whole. */
export function wrapText(text: string, { columns }: Pick<Screen, 'columns'>, indent: string): readonly string[] {
  return visible(text)
    .split('\n')
    .flatMap((line, index) => wrapLine(index === 0 ? line : `${indent}${line}`, columns, indent));
}

function wrapLine(line: string, columns: number, indent: string): readonly string[] {
  // The spaces of a label or of an indentation belong to the first word.
  const tied = line.replace(COMMAND, (command) => command.replaceAll(' ', TIED));
  const [first = '', ...words] = tied.split(/(?<=\S) (?=\S)/).map((word) => word.replaceAll(TIED, ' '));
  const lines = [first];
  for (const word of words) {
    const last = lines.at(-1) ?? '';
    if (last.length + 1 + word.length <= columns) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(`${indent}${word}`);
  }
  return lines;
}

/** Rows of a console that lines take. */
export function heightOf(lines: readonly string[], { columns }: Pick<Screen, 'columns'>): number {
  return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
}
