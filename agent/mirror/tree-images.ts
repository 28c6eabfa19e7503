import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readText } from '../extract/archives.ts';
import { type Digest, digestOfHex, isDigest } from '../model/digest.ts';
import { TREE_ROOT, treeRepositoryPath } from '../model/registry-path.ts';
import { signedByTag } from '../signatures/attachment.ts';
import { LINK_LIMIT_BYTES } from './mirror-member.ts';

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
 * links are read. A tag whose manifest the repository does not link is left out, as distribution does not serve it.
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
    if (digest !== undefined && (await readLink(join(manifests, 'revisions/sha256', hex, 'link'))) === digest) digests.push(digest);
  }
  const tags = new Map<Digest, string[]>();
  for (const tag of (await directoriesIn(join(manifests, 'tags'))).toSorted()) {
    const digest = await readLink(join(manifests, 'tags', tag, 'current/link'));
    if (digest !== undefined) tags.set(digest, [...(tags.get(digest) ?? []), tag]);
  }
  // Signatures lie under tags of their own beside what they sign, and are not images.
  const isSignature = (digest: Digest): boolean => {
    const own = tags.get(digest) ?? [];
    return own.length > 0 && own.every((tag) => signedByTag(tag) !== undefined);
  };
  return digests.filter((digest) => !isSignature(digest)).map((digest) => ({ repository, digest, tags: tags.get(digest) ?? [] }));
}

async function readLink(path: string): Promise<Digest | undefined> {
  const text = await readText(path, LINK_LIMIT_BYTES).then(
    (content) => content.trim(),
    () => '',
  );
  return isDigest(text) ? text : undefined;
}

/** Names of the directories in a directory; of links to some none. */
async function directoriesIn(path: string): Promise<readonly string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((error: NodeJS.ErrnoException): Dirent[] => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
