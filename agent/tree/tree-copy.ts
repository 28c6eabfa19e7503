import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';
import type { BundleFile } from '../model/bundle.ts';
import { MIRROR_PATH } from '../model/places.ts';
import { TREE_ROOT } from '../model/registry-path.ts';
import { linkData, noRoom, plainFiles } from './link-data.ts';
import { type MetadataCopy, placeCopy } from './metadata-copy.ts';
import { checkLimits, copySealedFiles } from './sealed-files.ts';

/** A registry tree whose links and manifests are in memory. */
export interface CopiedTree {
  /** The directory that holds `docker`. */
  readonly path: string;
  /** The directory on the partition that configs and layers are read from: links of the tree lead into it, by exactly this path. */
  readonly blobs: string;
}

/**
 * Copies into memory the files that decide what a registry tree serves: the manifests, and the links, which say what a tag means and what a repository
 * has. Each is checked against prestage.json on the way, so writing to the partition later does not change what is served. Configs and layers stay on the
 * partition: the engines that pull them check their digests. Files that prestage.json does not list are not served.
 * A manifest or blob is left out if it is missing or not a plain file, a manifest also if it has other bytes. A copy of the same tree is kept, unless a
 * manifest was left out: then the next run copies again.
 * @throws PrestageError ERR_BUNDLE_FILE for a tree that cannot be kept in memory, ERR_SPACE_MEMORY
 */
export async function copyTree(host: Host, { from, files, act, signal }: MetadataCopy): Promise<CopiedTree> {
  const { deciding, data } = splitTree(files);
  checkLimits({ from, files: deciding });
  const there = await plainFiles(from, data);
  const identity = createHash('sha256')
    .update(JSON.stringify(['tree', from, files, there]))
    .digest('hex');
  await placeCopy(host, { identity, act }, async (to) => {
    let faults = 0;
    await copySealedFiles(to, { from, files: deciding, signal, onFault: () => void faults++ }, noRoom);
    await linkData(to, from, there);
    return faults === 0;
  });
  return { path: hostPath(host, MIRROR_PATH), blobs: join(from, TREE_ROOT, 'blobs') };
}

/**
 * The files that decide what a tree serves, and the paths of the other blobs, configs and layers. A registry serves as a manifest what a repository has
 * a revision of.
 * Pure. Source: distribution, registry/storage/paths.go.
 */
function splitTree(files: readonly BundleFile[]): { readonly deciding: readonly BundleFile[]; readonly data: readonly string[] } {
  const manifests = new Set(files.flatMap(({ path }) => /\/_manifests\/revisions\/sha256\/([0-9a-f]{64})\/link$/.exec(path)?.[1] ?? []));
  const hexOfData = (path: string): string | undefined =>
    /^docker\/registry\/v2\/blobs\/sha256\/[0-9a-f]{2}\/([0-9a-f]{64})\/data$/.exec(path)?.[1];
  const isDeciding = ({ path }: BundleFile): boolean =>
    path.startsWith(`${TREE_ROOT}/repositories/`) || manifests.has(hexOfData(path) ?? '');
  return {
    deciding: files.filter(isDeciding),
    data: files.filter((file) => !isDeciding(file) && hexOfData(file.path) !== undefined).map(({ path }) => path),
  };
}
