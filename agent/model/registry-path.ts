import type { Reference } from './reference.ts';

/**
 * The repository under which a registry of ours serves an image: the source's host comes first, because an engine that asks a mirror does not
 * say which registry it means. Host names are lower case there, and the colon before a port becomes `_`, which no host name has.
 * Source: github.com/distribution/reference, "Grammar"; field facts, "Mirrors".
 */
export function registryRepository(reference: Pick<Reference, 'registry' | 'repository'>): string {
  return `${reference.registry.toLowerCase().replaceAll(':', '_')}/${reference.repository}`;
}
