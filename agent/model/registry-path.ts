import { type Digest, hexOf } from './digest.ts';
import type { Reference } from './reference.ts';

/**
 * The repository under which our registry serves an image. The source's host comes first, because an engine that asks a mirror does not say
 * which registry it means. Host names become lower case, and the colon before a port becomes `_`, which no host name contains.
 * Source: github.com/distribution/reference, "Grammar"; docs/field-facts.md, "Mirrors".
 */
export function registryRepository(reference: Pick<Reference, 'registry' | 'repository'>): string {
  return `${reference.registry.toLowerCase().replaceAll(':', '_')}/${reference.repository}`;
}

/** The directory in which distribution keeps everything, below the root directory of a registry. Source: github.com/distribution/distribution, registry/storage/paths.go. */
export const TREE_ROOT = 'docker/registry/v2';

/** The path of a blob in a registry tree, relative to its root. */
export function treeBlobPath(digest: Digest): string {
  const hex = hexOf(digest);
  return `${TREE_ROOT}/blobs/sha256/${hex.slice(0, 2)}/${hex}/data`;
}

/** The path of the links of a repository in a registry tree, relative to its root. */
export function treeRepositoryPath(repository: string): string {
  return `${TREE_ROOT}/repositories/${repository}`;
}
