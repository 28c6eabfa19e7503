import { asset } from '../assets.ts';
import { type ErrorCode, errorTable, exitCodeOf, isErrorCode, PrestageError } from '../model/errors.ts';
import { quoteInput } from '../model/faults.ts';
import { hangingText } from '../model/hanging-text.ts';
import { suggest } from '../model/suggest.ts';
import type { CommandSpec } from './command-spec.ts';
import { OUTPUT_FORMS } from './output.ts';

/** The document whose tables the command shows; it travels inside the executable. */
const ERRORS_DOCUMENT = 'docs/errors.md';

/** What is known about an error code. */
export interface Explanation {
  readonly code: ErrorCode;
  readonly summary: string;
  readonly exitCode: number;
  readonly exitName: string;
  /** What the exit code means for a command as a whole. */
  readonly exitMeaning: string;
  readonly remedy: string;
}

/** `prestage-agent explain`: the meaning and the remedy of an error code, without a network or a guide at hand. */
export const explainCommand: CommandSpec = {
  name: 'explain',
  summary: 'Explain an error code, and what to do about it',
  description: 'Explain an error code: its meaning, its exit code, and what to do. Without a code, list all codes. Needs no network.',
  arguments: [{ usage: '[code]', help: 'error code, such as ERR_LOCKED; letter case and ERR_ may be left out' }],
  flags: [],
  forms: OUTPUT_FORMS,
  examples: ['prestage-agent explain ERR_LOCKED', 'prestage-agent explain'],
  answer: async (_terminal, _options, args) => {
    const all = explanations(asset(ERRORS_DOCUMENT));
    const [text] = args;
    if (text === undefined) {
      return { data: { apiVersion: 'prestage-agent/v1', kind: 'ErrorCodes', codes: all }, text: listText(all), exitCode: 0 };
    }
    const found = findCode(text, all);
    return { data: { apiVersion: 'prestage-agent/v1', kind: 'ErrorCode', ...found }, text: explanationText(found), exitCode: 0 };
  },
};

/** Every error code with what errors.ts and the tables of docs/errors.md say about it. Pure. */
export function explanations(document: string): readonly Explanation[] {
  const rows = document.split('\n').flatMap((line) => (line.startsWith('| ') ? [line.split('|').slice(1, -1).map(plainCell)] : []));
  const cells = new Map(rows.map(([first = '', , meaning = '', remedy = '']) => [first.replaceAll('`', ''), { meaning, remedy }]));
  return Object.keys(errorTable)
    .filter(isErrorCode)
    .map((code) => ({
      code,
      summary: errorTable[code].summary,
      exitCode: exitCodeOf(code),
      exitName: errorTable[code].exit,
      exitMeaning: cells.get(String(exitCodeOf(code)))?.meaning ?? '',
      remedy: cells.get(code)?.remedy ?? '',
    }));
}

/** A cell of a table without its links: on a console only the name of a document is of use. */
function plainCell(cell: string): string {
  return cell.trim().replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1');
}

/**
 * The code that a person means.
 * @throws PrestageError ERR_USAGE with similar codes
 */
function findCode(text: string, all: readonly Explanation[]): Explanation {
  const name = text.trim().toUpperCase().replaceAll('-', '_');
  const full = name.startsWith('ERR_') ? name : `ERR_${name}`;
  const found = all.find(({ code }) => code === full);
  if (found !== undefined) return found;
  const near = similarCodes(full, all);
  throw new PrestageError(
    'ERR_USAGE',
    `${quoteInput(text)} is not an error code${near.length === 0 ? '' : `; similar codes: ${near.join(', ')}`}`,
    'List all codes with: prestage-agent explain',
  );
}

/** Most similar codes that are named. */
const NAMED_CODES = 8;

function similarCodes(name: string, all: readonly Explanation[]): readonly string[] {
  const codes = all.map(({ code }) => code);
  const typed = suggest(name, codes);
  const word = name.slice('ERR_'.length);
  const related = word.length < 3 ? [] : codes.filter((code) => code.includes(word));
  return [...new Set([...related, ...(typed === undefined ? [] : [typed])])].slice(0, NAMED_CODES);
}

function explanationText({ code, summary, exitCode, exitName, exitMeaning, remedy }: Explanation): string {
  return [
    hangingText(`${code}: `, summary, 2),
    hangingText('exit code: ', `${exitCode} (${exitName}): ${exitMeaning}`, 11),
    hangingText('next:      ', remedy, 11),
  ].join('\n');
}

function listText(all: readonly Explanation[]): string {
  const width = Math.max(...all.map(({ code }) => code.length)) + 2;
  return all.map(({ code, summary }) => hangingText(code.padEnd(width), summary, width)).join('\n');
}
