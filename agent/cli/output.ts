import { inspect } from 'node:util';
import { stringify } from 'yaml';
import { own } from '../host/text-stream.ts';
import { type ErrorRecord, exitCodeOf } from '../model/errors.ts';
import { hasControls } from '../model/visible.ts';
import type { Terminal } from './context.ts';

/** An error that ends the program with an exit code other than its own. */
export class ExitWith extends Error {
  override readonly name = 'ExitWith';
  readonly exitCode: number;

  constructor(exitCode: number, cause: unknown) {
    super('the program ends', { cause });
    this.exitCode = exitCode;
  }
}

/** Forms of an answer: text for people, the same facts as data for programs. */
export const OUTPUT_FORMS = ['text', 'json', 'yaml'] as const;
export type OutputForm = (typeof OUTPUT_FORMS)[number];

/** The answer of a command: the facts as data, and as text for people. */
export interface Answer {
  readonly data: unknown;
  readonly text: string;
  readonly exitCode: number;
}

export type Style = 'good' | 'bad' | 'warn' | 'dim' | 'bold';
export type Paint = (style: Style, text: string) => string;

const STYLES = { good: 'green', bad: 'red', warn: 'yellow', dim: 'dim', bold: 'bold' } as const;

/** The answer in the requested form, with a newline at its end. */
export function render(answer: Pick<Answer, 'data' | 'text'>, form: OutputForm): string {
  const text = form === 'json' ? JSON.stringify(answer.data, undefined, 2) : form === 'yaml' ? yamlOf(answer.data) : answer.text;
  return text.endsWith('\n') ? text : `${text}\n`;
}

/** YAML that stays the same document if control characters in it are written as `\uXXXX`; only double quotes allow that. Source: YAML 1.2.2, 5.7. */
function yamlOf(data: unknown): string {
  const text = stringify(data);
  if (!hasControls(text)) return text;
  return stringify(data, { defaultStringType: 'QUOTE_DOUBLE', defaultKeyType: 'QUOTE_DOUBLE', lineWidth: 0 });
}

/** An error as a command ends with it. */
export function renderError(error: ErrorRecord, form: OutputForm): string {
  const data = { apiVersion: 'prestage-agent/v1', kind: 'Error', error: { ...error, exitCode: exitCodeOf(error.code) } };
  return render({ data, text: `error: ${error.message}\n  ${error.code}; next: ${error.remedy}` }, form);
}

/**
 * Colours if they are wanted: NO_COLOR and TERM=dumb turn them off, FORCE_COLOR and CLICOLOR_FORCE on; otherwise only a terminal gets them.
 * Source: no-color.org, bixense.com/clicolors.
 */
export function painter(terminal: Pick<Terminal, 'out' | 'env'>): Paint {
  const { env, out } = terminal;
  const isOn = (name: string): boolean => env[name] !== undefined && env[name] !== '' && env[name] !== '0';
  const isForced = isOn('FORCE_COLOR') || isOn('CLICOLOR_FORCE');
  const isRefused = (env.NO_COLOR ?? '') !== '' || env.TERM === 'dumb' || env.CLICOLOR === '0';
  const isColoured = isForced || (!isRefused && out.isTTY === true);
  return (style, text) => (isColoured ? colour(STYLES[style], text) : text);
}

/** Source: ECMA-48, SGR (`ESC [ n m`). */
function colour(name: (typeof STYLES)[Style], text: string): string {
  const [begin, end] = inspect.colors[name] ?? [0, 0];
  return `${own(`\u001b[${begin}m`)}${text}${own(`\u001b[${end}m`)}`;
}
