import type { RegistryEntry } from './registries-file.ts';

/**
 * How many characters of an image's name (or namespace) a prefix stands for, or undefined if it does not apply to it.
 * Source: containers/image, pkg/sysregistriesv2, refMatchingPrefix: a port counts as a continuation of its host, which is not intended there
 * but is what engines do; a wildcard stands for the first host that ends in its domain.
 */
export function matchLength(name: string, prefix: string): number | undefined {
  const end = prefix.startsWith('*.') ? wildcardEnd(name, prefix.slice(1)) : name.startsWith(prefix) ? prefix.length : undefined;
  if (end === undefined) return undefined;
  return end === name.length || ':/@'.includes(name.charAt(end)) ? end : undefined;
}

/** The entry that applies to a name: the one with the longest prefix. */
export function governingEntry(entries: readonly RegistryEntry[], name: string): RegistryEntry | undefined {
  const matching = entries.filter((entry) => matchLength(name, entry.prefix) !== undefined);
  return matching.toSorted((a, b) => b.prefix.length - a.prefix.length)[0];
}

/** The location for a name that is longer than its prefix: the rest of the name is appended to the location of the prefix. */
export function relocate(name: string, from: { readonly prefix: string; readonly location: string }): string {
  const length = matchLength(name, from.prefix);
  return from.location === '' || length === undefined ? name : from.location + name.slice(length);
}

function wildcardEnd(name: string, domain: string): number | undefined {
  const index = name.indexOf(domain);
  return index < 0 || name.slice(0, index).includes('/') ? undefined : index + domain.length;
}
