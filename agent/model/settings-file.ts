import { isMap, isScalar, LineCounter, type ParsedNode, parseDocument, type YAMLMap } from 'yaml';
import { quoteInput } from './faults.ts';
import type { GivenValue } from './setting-readers.ts';
import { isSettingKey, SETTING_KEYS, type SettingKey } from './setting-table.ts';
import { suggest } from './suggest.ts';

/** The settings file, as read from the disk. */
export interface SettingsFile {
  readonly path: string;
  readonly text: string;
}

/** The content of a settings file, before the values are checked. */
export interface FileSettings {
  readonly given: ReadonlyMap<SettingKey, GivenValue>;
  /** The faults of the file, each with path and line. */
  readonly faults: readonly string[];
}

/**
 * Reads the structure of a settings file: YAML 1.2, one mapping of setting names to scalars, each name once. An empty file has no settings.
 */
export function readSettingsFile(file: SettingsFile): FileSettings {
  const lines = new LineCounter();
  const document = parseDocument(file.text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false });
  const place = (offset: number): string => `${file.path}:${lines.linePos(offset).line}`;
  const faults = [...document.errors, ...document.warnings].map((error) => `${place(error.pos[0])}: ${error.message}`);
  if (faults.length > 0) return { given: new Map(), faults };
  const { contents } = document;
  if (contents === null || (isScalar(contents) && contents.value === null)) return { given: new Map(), faults };
  if (!isMap(contents)) return { given: new Map(), faults: [`${file.path} must be a mapping of settings, one "name: value" per line`] };
  return readPairs(contents.items, place);
}

function readPairs(pairs: YAMLMap.Parsed['items'], place: (offset: number) => string): FileSettings {
  const given = new Map<SettingKey, GivenValue>();
  const faults: string[] = [];
  for (const { key, value } of pairs) {
    const where = place(key.range[0]);
    const name = isScalar(key) ? String(key.value) : '(a nested key)';
    if (!isSettingKey(name)) {
      const meant = suggest(name, SETTING_KEYS);
      faults.push(`${where}: ${quoteInput(name)} is not a setting${meant === undefined ? '' : `, did you mean ${meant}?`}`);
      continue;
    }
    const earlier = given.get(name);
    if (earlier === undefined) given.set(name, { raw: rawOf(value), source: 'file', where });
    else faults.push(`${where}: ${name} is already set at ${earlier.where}`);
  }
  return { given, faults };
}

/** The scalar; undefined for a list, a mapping or an alias, because no setting accepts them. */
function rawOf(value: ParsedNode | null): unknown {
  if (value === null) return null;
  return isScalar(value) ? value.value : undefined;
}
