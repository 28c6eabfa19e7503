import { isDeepStrictEqual } from 'node:util';
import { parse } from 'smol-toml';
import { PrestageError } from '../model/errors.ts';
import { arrayElements, type KeySpan, type TomlSpan, tomlSpans } from './toml-spans.ts';

/**
 * The storage.conf of a machine that has none: the defaults of containers-storage for root.
 * Source: containers-storage.conf(5); github.com/containers/storage, types/options.go.
 */
export const DEFAULT_STORAGE_CONF = `[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

[storage.options]
`;

const OPTIONS = ['storage', 'options'];
const STORES = [...OPTIONS, 'additionalimagestores'];

/**
 * The text of a storage.conf with one more additional image store, after the existing ones. Everything else stays as it is, including comments and
 * order; if the store is listed already, the text is the same. The result is parsed and compared before it is returned. Pure.
 * @param store an absolute path
 * @throws PrestageError ERR_SYSTEM_FILE if the text is not TOML, or its options are written in a way that cannot be extended
 */
export function addStore(text: string, store: string): string {
  const before = parseToml(text);
  const stores = storesOf(before);
  if (stores.includes(store)) return text;
  const spans = tomlSpans(text) ?? [];
  const added = withStore(text, spans, store);
  assertOnly(added, withStores(before, [...stores, store]));
  return added;
}

/** The text without the store; the key stays, with an empty list if it was the only one. Pure. Throws like addStore. */
export function removeStore(text: string, store: string): string {
  const before = parseToml(text);
  const stores = storesOf(before);
  if (!stores.includes(store)) return text;
  const key = keyOf(tomlSpans(text) ?? [], STORES);
  const elements = key === undefined ? undefined : arrayElements(text, key);
  if (elements === undefined) throw unchangeable('its list of stores cannot be found');
  const index = stores.indexOf(store);
  const [own, previous, next] = [elements[index], elements[index - 1], elements[index + 1]];
  if (own === undefined) throw unchangeable('its list of stores cannot be found');
  // With its comma: the one before it, or the one after it if it is the first.
  const from = previous?.end ?? own.start;
  const to = previous === undefined ? (next?.start ?? behindComma(text, own.end)) : own.end;
  const removed = text.slice(0, from) + text.slice(to);
  assertOnly(removed, withStores(before, stores.toSpliced(index, 1)));
  return removed;
}

/** The additional image stores that a storage.conf lists. */
export function listedStores(text: string): readonly string[] {
  return storesOf(parseToml(text));
}

function withStore(text: string, spans: readonly TomlSpan[], store: string): string {
  const eol = text.includes('\r\n') ? '\r\n' : '\n';
  const value = JSON.stringify(store);
  const line = `additionalimagestores = [${value}]${eol}`;
  const key = keyOf(spans, STORES);
  if (key !== undefined) return intoArray(text, key, value, eol);
  const table = spans.find((span) => span.kind === 'table' && !span.isArray && isDeepStrictEqual(span.path, OPTIONS));
  if (table !== undefined) return insertLine(text, table.end, line, eol);
  // `options.x = …` below [storage] defines the table, so a header would define it a second time.
  const dotted = spans.findLast(
    (span, index) => span.kind === 'key' && inTable(spans, index, ['storage']) && startsWith(span.path, OPTIONS),
  );
  if (dotted !== undefined) return insertLine(text, dotted.end, `options.${line}`, eol);
  const inner = spans.find((span) => span.kind === 'table' && startsWith(span.path, OPTIONS));
  const header = `[storage.options]${eol}${line}`;
  if (inner?.kind === 'table') return `${text.slice(0, inner.start)}${header}${eol}${text.slice(inner.start)}`;
  return insertLine(text, text.length, text.trim() === '' ? header : `${eol}${header}`, eol);
}

function intoArray(text: string, key: KeySpan, value: string, eol: string): string {
  const elements = arrayElements(text, key);
  if (elements === undefined) throw unchangeable('additionalimagestores is not a list');
  const last = elements.at(-1);
  if (last !== undefined) {
    const indent = /(?:^|\n)([ \t]*)$/.exec(text.slice(0, last.start))?.[1];
    return insert(text, last.end, indent === undefined ? `, ${value}` : `,${eol}${indent}${value}`);
  }
  // The Machine Config Operator writes an empty list with only a line end between the brackets.
  const isOpen = /^[ \t]*\r?\n/.test(text.slice(key.valueStart + 1));
  return insert(text, key.valueStart + 1, isOpen ? `${eol}    ${value},` : value);
}

function insert(text: string, at: number, piece: string): string {
  return text.slice(0, at) + piece + text.slice(at);
}

function insertLine(text: string, at: number, line: string, eol: string): string {
  const isOpen = at > 0 && text[at - 1] !== '\n';
  return insert(text, at, isOpen ? eol + line : line);
}

function behindComma(text: string, end: number): number {
  return end + (/^[ \t]*,/.exec(text.slice(end))?.[0].length ?? 0);
}

function keyOf(spans: readonly TomlSpan[], path: readonly string[]): KeySpan | undefined {
  return spans.filter((span) => span.kind === 'key').find((span) => isDeepStrictEqual(span.path, path));
}

function startsWith(path: readonly string[], start: readonly string[]): boolean {
  return isDeepStrictEqual(path.slice(0, start.length), start);
}

/** Whether the key at an index is below the header of exactly this table. */
function inTable(spans: readonly TomlSpan[], index: number, path: readonly string[]): boolean {
  const table = spans.slice(0, index).findLast((span) => span.kind === 'table');
  return table !== undefined && isDeepStrictEqual(table.path, path);
}

type Toml = Readonly<Record<string, unknown>>;

function parseToml(text: string): Toml {
  try {
    return parse(text);
  } catch (cause) {
    throw unchangeable(cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : String(cause), cause);
  }
}

function storesOf(conf: Toml): readonly string[] {
  const stores = at(at(conf, 'storage'), 'options');
  const listed = at(stores, 'additionalimagestores');
  if (listed === undefined) return [];
  if (Array.isArray(listed) && listed.every((store) => typeof store === 'string')) return listed;
  throw unchangeable('additionalimagestores is not a list of paths');
}

function withStores(conf: Toml, stores: readonly string[]): Toml {
  const storage = table(at(conf, 'storage'));
  const options = table(at(storage, 'options'));
  return { ...conf, storage: { ...storage, options: { ...options, additionalimagestores: stores } } };
}

function assertOnly(text: string, wanted: Toml): void {
  // Tables of the parser have no prototype; a copy by JSON would lose dates and big numbers.
  if (!isDeepStrictEqual(plain(parseToml(text)), plain(wanted)))
    throw unchangeable('its options are written in a way that is not supported');
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

function at(value: unknown, key: string): unknown {
  return table(value)[key];
}

function table(value: unknown): Toml {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function unchangeable(reason: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_SYSTEM_FILE',
    `storage.conf cannot be changed: ${reason}`,
    'Correct /etc/containers/storage.conf, and write its options in a plain [storage.options] table',
    cause === undefined ? undefined : { cause },
  );
}
