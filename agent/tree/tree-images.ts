import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestOfHex } from '../model/digest.ts';
import { TREE_ROOT, treeRepositoryPath } from '../model/registry-path.ts';
import { signedByTag } from '../signatures/attachment.ts';
import { besideBelow, readTreeLink } from './tree-attachments.ts';

/** A manifest that a registry serves from a repository. */
export interface ServedImage {
  readonly repository: string;
  /** Of the manifest or list. */
  readonly digest: Digest;
  /** Tags that lead to it, sorted. */
  readonly tags: readonly string[];
}

/**
 * What a registry's tree serves: every manifest of every repository that a link of its own vouches for, sorted by repository and digest. Only
 * links and lists of referrers are read. A tag whose manifest the repository does not link is left out, as distribution does not serve it.
 * Source: github.com/distribution/distribution, registry/storage/paths.go.
 * @param root the directory that holds `docker/`
 * @returns nothing where there is no tree
 */
export async function treeImages(root: string): Promise<readonly ServedImage[]> {
  const repositories = await repositoriesBelow(join(root, TREE_ROOT, 'repositories'), '');
  const served = await Promise.all(repositories.map(async (repository) => await servedBy(root, repository)));
  return served.flat();
}

/** Whether a tree has signatures beside its images. */
export async function holdsSignatures(root: string): Promise<boolean> {
  for (const repository of await repositoriesBelow(join(root, TREE_ROOT, 'repositories'), '')) {
    const tags = await directoriesIn(join(root, treeRepositoryPath(repository), '_manifests/tags'));
    if (tags.some((tag) => signedByTag(tag) !== undefined)) return true;
  }
  return false;
}

async function repositoriesBelow(directory: string, name: string): Promise<readonly string[]> {
  const entries = (await directoriesIn(join(directory, name))).toSorted();
  const own = name !== '' && entries.includes('_manifests') ? [name] : [];
  const below: string[] = [];
  for (const entry of entries.filter((one) => !one.startsWith('_'))) {
    below.push(...(await repositoriesBelow(directory, name === '' ? entry : `${name}/${entry}`)));
  }
  return [...own, ...below];
}

async function servedBy(root: string, repository: string): Promise<readonly ServedImage[]> {
  const manifests = join(root, treeRepositoryPath(repository), '_manifests');
  const digests: Digest[] = [];
  for (const hex of (await directoriesIn(join(manifests, 'revisions/sha256'))).toSorted()) {
    const digest = digestOfHex(hex);
    if (digest !== undefined && (await readTreeLink(join(manifests, 'revisions/sha256', hex, 'link'))) === digest) digests.push(digest);
  }
  const tags = new Map<Digest, string[]>();
  const beside = new Map<Digest, string[]>();
  for (const tag of (await directoriesIn(join(manifests, 'tags'))).toSorted()) {
    const digest = await readTreeLink(join(manifests, 'tags', tag, 'current/link'));
    if (digest === undefined) continue;
    tags.set(digest, [...(tags.get(digest) ?? []), tag]);
    for (const one of (await besideBelow(root, tag, digest)) ?? []) beside.set(one, [...(beside.get(one) ?? []), tag]);
  }
  // Signatures and attachments lie beside the image that their tags name, and are not images. One that has a tag of its own besides is.
  const isBeside = (digest: Digest): boolean => {
    const leading = beside.get(digest) ?? [];
    return leading.length > 0 && (tags.get(digest) ?? []).every((tag) => leading.includes(tag));
  };
  return digests.filter((digest) => !isBeside(digest)).map((digest) => ({ repository, digest, tags: tags.get(digest) ?? [] }));
}

/** Names of the directories in a directory; of links to some none. */
async function directoriesIn(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException): Dirent[] => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
