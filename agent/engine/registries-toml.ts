import { TomlDate } from 'smol-toml';
import type { RegistryEntry } from './registries-file.ts';

/** A `[[registry]]` table and its mirrors as lines of TOML. Keys with their default value are left out. */
export function entryLines(entry: RegistryEntry): readonly string[] {
  const { prefix, location, insecure, blocked, mirrorByDigestOnly } = entry;
  return [
    '[[registry]]',
    line('prefix', prefix),
    ...(location === '' ? [] : [line('location', location)]),
    ...(insecure ? [line('insecure', true)] : []),
    ...(blocked ? [line('blocked', true)] : []),
    ...(mirrorByDigestOnly ? [line('mirror-by-digest-only', true)] : []),
    ...Object.entries(entry.extra).map(([key, value]) => line(key, value)),
    ...mirrorLines(entry.mirrors),
  ];
}

/** `[[registry.mirror]]` tables, each after an empty line. */
export function mirrorLines(mirrors: RegistryEntry['mirrors']): readonly string[] {
  return mirrors.flatMap(({ location, insecure, pullFromMirror, extra }) => [
    '',
    '[[registry.mirror]]',
    line('location', location),
    ...(insecure ? [line('insecure', true)] : []),
    ...(pullFromMirror === undefined ? [] : [line('pull-from-mirror', pullFromMirror)]),
    ...Object.entries(extra).map(([key, value]) => line(key, value)),
  ]);
}

/** One `key = value`. Source: TOML 1.0, "Keys", "Inline Table". */
export function line(key: string, value: unknown): string {
  return `${/^[A-Za-z0-9_-]+$/.test(key) ? key : text(key)} = ${valueText(value)}`;
}

function valueText(value: unknown): string {
  if (typeof value === 'string') return text(value);
  if (typeof value === 'number') return numberText(value);
  if (typeof value === 'bigint' || typeof value === 'boolean') return String(value);
  if (value instanceof TomlDate) return value.toISOString();
  if (Array.isArray(value)) return `[${value.map(valueText).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{ ${Object.entries(value)
      .map(([key, item]) => line(key, item))
      .join(', ')} }`;
  throw new TypeError(`TOML has no value for ${typeof value}`);
}

function numberText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  return Number.isFinite(value) ? String(value) : value > 0 ? 'inf' : '-inf';
}

/** A basic string. JSON escapes everything that TOML requires, except DEL. Source: TOML 1.0, "String". */
function text(value: string): string {
  return JSON.stringify(value).replaceAll('\u007f', '\\u007f');
}
