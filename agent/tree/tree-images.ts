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
  /** Digest of the manifest or list. */
  readonly digest: Digest;
  /** Tags that lead to it, sorted. */
  readonly tags: readonly string[];
}

/**
 * The images that the tree of a registry serves: every manifest that its repository links, sorted by repository and digest. Only links and lists of
 * referrers are read. A tag is left out if the repository has no link to its manifest, because distribution does not serve it.
 * Source: github.com/distribution/distribution, registry/storage/paths.go.
 * @param root the directory that holds `docker/`
 * @returns an empty list if there is no tree
 */
export async function treeImages(root: string): Promise<readonly ServedImage[]> {
  const repositories = await repositoriesBelow(join(root, TREE_ROOT, 'repositories'), '');
  const served = await Promise.all(repositories.map(async (repository) => await servedBy(root, repository)));
  return served.flat();
}

/** Whether a tree has signatures for any of its images. */
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
  // Signatures and attachments, whose tags name an image, are not images themselves, unless they also have an ordinary tag.
  const isBeside = (digest: Digest): boolean => {
    const leading = beside.get(digest) ?? [];
    return leading.length > 0 && (tags.get(digest) ?? []).every((tag) => leading.includes(tag));
  };
  return digests.filter((digest) => !isBeside(digest)).map((digest) => ({ repository, digest, tags: tags.get(digest) ?? [] }));
}

/** Names of the directories in a directory, without symbolic links to directories. */
async function directoriesIn(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException): Dirent[] => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
