import { createHash } from 'node:crypto';
import { lstat, mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pLimit from 'p-limit';
import { type Host, hostPath } from '../host/host.ts';
import type { BundleFile } from '../model/bundle.ts';
import { MIRROR_PATH } from '../model/places.ts';
import { TREE_ROOT } from '../model/registry-path.ts';
import { type MirrorCopy, noRoom, placeCopy } from './mirror-copy.ts';
import { checkLimits, copySealedFiles } from './sealed-files.ts';

/** A registry tree of which all that decides lies in memory. */
export interface CopiedTree {
  /** The directory that holds `docker`. */
  readonly path: string;
  /** The directory on the partition that configs and layers are read from: links of the tree lead into it, by this very path. */
  readonly blobs: string;
}

/** Files that are looked at at a time. */
const PARALLEL = 64;

/**
 * Copies into memory what decides what a registry tree serves: the links, which say what a tag means and what a repository gives out, and the
 * manifests. Each is checked by prestage.json on the way, so nobody who writes the partition later changes what is served. Configs and layers stay on
 * the partition: whoever pulls them compares their digests. What prestage.json does not list is not served.
 * A manifest or a blob that is missing, is not a plain file, or, as a manifest, has other bytes, is left out. A copy of the same tree stays as it is,
 * unless a manifest was left out: then the next run copies again.
 * @throws PrestageError ERR_BUNDLE_FILE for a tree that cannot be kept in memory, ERR_SPACE_MEMORY
 */
export async function copyTree(host: Host, { from, files, step, signal }: MirrorCopy): Promise<CopiedTree> {
  const { deciding, data } = splitTree(files);
  checkLimits({ from, files: deciding });
  const there = await plainFiles(from, data);
  const identity = createHash('sha256')
    .update(JSON.stringify(['tree', from, files, there]))
    .digest('hex');
  await placeCopy(host, { identity, step }, async (to) => {
    let faults = 0;
    await copySealedFiles(to, { from, files: deciding, signal, onFault: () => void faults++ }, noRoom);
    await linkData(to, from, there);
    return faults === 0;
  });
  return { path: hostPath(host, MIRROR_PATH), blobs: join(from, TREE_ROOT, 'blobs') };
}

/**
 * What of a tree decides, and the paths of the other blobs, configs and layers. A registry gives out as manifests what a repository has a revision of.
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

/** Those of the paths that are plain files: a registry would follow a link, to whatever its container can read. */
async function plainFiles(from: string, paths: readonly string[]): Promise<readonly string[]> {
  const limit = pLimit(PARALLEL);
  const isPlain = async (path: string): Promise<boolean> => (await lstat(join(from, path)).catch(() => undefined))?.isFile() === true;
  const found = await Promise.all(paths.map((path) => limit(async () => ((await isPlain(path)) ? [path] : []))));
  return found.flat();
}

/** Links the directory of each blob, so that what goes from the partition goes from the tree. */
async function linkData(to: string, from: string, paths: readonly string[]): Promise<void> {
  const limit = pLimit(PARALLEL);
  const folders = new Set(paths.map((path) => dirname(dirname(join(to, path)))));
  for (const folder of folders) await placed(folder, async () => void (await mkdir(folder, { recursive: true, mode: 0o755 })));
  await Promise.all(
    paths.map((path) =>
      limit(async () => {
        const link = dirname(join(to, path));
        await placed(link, async () => await symlink(dirname(join(from, path)), link));
      }),
    ),
  );
}

async function placed(path: string, place: () => Promise<void>): Promise<void> {
  try {
    await place();
  } catch (cause) {
    throw noRoom(path, cause);
  }
}
