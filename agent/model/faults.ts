import * as v from 'valibot';
import { visible } from './visible.ts';

/** Most faults of one input that a message names; the rest is a count. */
const SHOWN_LIMIT = 20;
/** Longest quotation of an input, in characters. */
const QUOTE_LIMIT = 160;

/** The faults that a schema found in a document, each with its place (`files.3.path`). */
export function schemaFaults(issues: readonly v.BaseIssue<unknown>[]): readonly string[] {
  return issues.map((issue) => `${v.getDotPath(issue) ?? 'document'}: ${inWords(issue)}`);
}

/** The message of a fault that a schema found. Replaces the technical messages of valibot for a missing or unknown key. */
export function inWords({ message, expected }: v.BaseIssue<unknown>): string {
  if (!message.startsWith('Invalid key: ')) return message;
  return expected === 'never' ? 'is not known' : 'is missing';
}

/** An input in double quotes for a message: control characters escaped as in JSON, cut after 160 characters. */
export function quoteInput(text: string): string {
  const cut = text.length <= QUOTE_LIMIT ? text : `${text.slice(0, QUOTE_LIMIT)}…`;
  return visible(JSON.stringify(cut));
}

/**
 * The faults of one input as the text of a message: a single fault as it is; several below a heading, one a line, at most 20 of them.
 * @param heading what is wrong with the input as a whole, without a full stop
 */
export function listFaults(heading: string, faults: readonly string[]): string {
  const [only] = faults;
  if (only !== undefined && faults.length === 1) return only;
  const hidden = faults.length - SHOWN_LIMIT;
  const lines = hidden > 0 ? [...faults.slice(0, SHOWN_LIMIT), `… and ${hidden} more`] : faults;
  return [`${heading}: ${faults.length} faults`, ...lines].join('\n');
}
