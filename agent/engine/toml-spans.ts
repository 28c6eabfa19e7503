/**
 * Finds the places of tables and keys in a TOML document, so that one value can be changed and every other byte kept. It finds places only: a real
 * parser must check the document and read its values. Source: TOML v1.0.0.
 */

/** A table header, `[a.b]`; `[[a.b]]` has isArray. */
export interface TableSpan {
  readonly kind: 'table';
  readonly path: readonly string[];
  readonly isArray: boolean;
  /** Offset of the first character of the line. */
  readonly start: number;
  /** Offset behind the line's end, or of the end of the document. */
  readonly end: number;
}

/** A key with its value. */
export interface KeySpan {
  readonly kind: 'key';
  /** Includes the path of the table that it is in. */
  readonly path: readonly string[];
  /** Offset of the value's first character. */
  readonly valueStart: number;
  /** Offset behind its last. */
  readonly valueEnd: number;
  /** Offset behind the line's end, or of the end of the document. */
  readonly end: number;
}

export type TomlSpan = TableSpan | KeySpan;

const KEY_PART = /[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*/y;

/** Tables and keys in their order, or undefined if the text does not look like TOML. */
export function tomlSpans(text: string): readonly TomlSpan[] | undefined {
  const spans: TomlSpan[] = [];
  let table: readonly string[] = [];
  for (let at = 0; at < text.length; ) {
    const start = skipBlank(text, at);
    if (start >= text.length) break;
    if (text[start] === '[') {
      const isArray = text.startsWith('[[', start);
      const key = readKey(text, start + (isArray ? 2 : 1));
      if (key === undefined || !text.startsWith(isArray ? ']]' : ']', key.end)) return undefined;
      table = key.path;
      at = lineEnd(text, key.end);
      spans.push({ kind: 'table', path: table, isArray, start: lineStart(text, start), end: at });
      continue;
    }
    const key = readKey(text, start);
    if (key === undefined || text[key.end] !== '=') return undefined;
    const valueStart = skipSpace(text, key.end + 1);
    const valueEnd = endOfValue(text, valueStart);
    if (valueEnd === undefined || valueEnd === valueStart) return undefined;
    at = lineEnd(text, valueEnd);
    spans.push({ kind: 'key', path: [...table, ...key.path], valueStart, valueEnd, end: at });
  }
  return spans;
}

/** The offsets of an array's elements, outermost only; undefined if the value is not an array. */
export function arrayElements(
  text: string,
  { valueStart, valueEnd }: Pick<KeySpan, 'valueStart' | 'valueEnd'>,
): readonly { readonly start: number; readonly end: number }[] | undefined {
  if (text[valueStart] !== '[') return undefined;
  const elements: { start: number; end: number }[] = [];
  for (let at = valueStart + 1; at < valueEnd - 1; ) {
    const start = skipBlank(text, at);
    if (text[start] === ']') break;
    if (text[start] === ',') {
      at = start + 1;
      continue;
    }
    const end = endOfValue(text, start);
    if (end === undefined || end === start) return undefined;
    elements.push({ start, end });
    at = end;
  }
  return elements;
}

function readKey(text: string, from: number): { readonly path: readonly string[]; readonly end: number } | undefined {
  const path: string[] = [];
  for (let at = from; ; at++) {
    KEY_PART.lastIndex = at;
    const match = KEY_PART.exec(text);
    if (match === null) return undefined;
    // An escape in a key is not resolved: no key that callers look for has one.
    path.push(match[1] ?? match[2] ?? match[3] ?? '');
    at = KEY_PART.lastIndex;
    if (text[at] !== '.') return { path, end: at };
  }
}

/** Offset behind a value: a string, an array, an inline table, or anything else up to what ends it. */
function endOfValue(text: string, start: number): number | undefined {
  const opening = text[start];
  if (opening === '"' || opening === "'") return endOfString(text, start);
  if (opening !== '[' && opening !== '{')
    return start + (/^[^\s,\]}#]*(?: [^\s,\]}#]+)*/.exec(text.slice(start, start + 200))?.[0].length ?? 0);
  const closing = opening === '[' ? ']' : '}';
  for (let at = start + 1; at < text.length; ) {
    const next = skipBlank(text, at);
    if (text[next] === closing) return next + 1;
    if (text[next] === ',' || text[next] === '=') {
      at = next + 1;
      continue;
    }
    const end = endOfValue(text, next);
    if (end === undefined || end === next) return undefined;
    at = end;
  }
  return undefined;
}

function endOfString(text: string, start: number): number | undefined {
  const quote = text.charAt(start);
  const isMultiLine = text.startsWith(quote.repeat(3), start);
  const closing = isMultiLine ? quote.repeat(3) : quote;
  for (let at = start + closing.length; at < text.length; at++) {
    if (quote === '"' && text[at] === '\\') {
      at++;
      continue;
    }
    if (!isMultiLine && text[at] === '\n') return undefined;
    if (!text.startsWith(closing, at)) continue;
    // The string may end in one or two quotes right before the closing three.
    let end = at + closing.length;
    while (isMultiLine && text[end] === quote && end < at + 5) end++;
    return end;
  }
  return undefined;
}

/** Skips blanks, line ends and comments. */
function skipBlank(text: string, from: number): number {
  let at = from;
  for (;;) {
    while (/\s/.test(text.charAt(at))) at++;
    if (text[at] !== '#') return at;
    at = lineEnd(text, at);
  }
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\t') at++;
  return at;
}

/** Offset behind the next line end. */
function lineEnd(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end < 0 ? text.length : end + 1;
}

function lineStart(text: string, from: number): number {
  return text.lastIndexOf('\n', from - 1) + 1;
}
