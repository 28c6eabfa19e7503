import { createHash } from 'node:crypto';
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { readText } from '../extract/archives.ts';
import type { BundleFile } from '../model/bundle.ts';
import { messageOf, PrestageError } from '../model/errors.ts';
import { TREE_ROOT } from '../model/registry-path.ts';

/** A link holds one digest. Source: distribution, registry/storage/paths.go. */
const LINK_LIMIT_BYTES = 1024;
/** Files that are looked at at a time. */
const AT_ONCE = 64;

/**
 * Holds the links of a registry's tree against prestage.json: they decide what a tag means and what a repository gives out, and unlike blobs
 * nothing in their names does. So links that prestage.json does not list are refused, too. All else must be plain files: a registry would follow
 * a symbolic link, to its own key at worst. What blobs hold is not looked at: whoever pulls them compares their digests.
 * @param tree the directory that holds `docker`
 * @param files of the tree as prestage.json has them, with paths below it
 * @throws PrestageError ERR_BUNDLE_FILE
 */
export async function checkLinks(tree: string, files: readonly BundleFile[]): Promise<void> {
  const limit = pLimit(AT_ONCE);
  const listed = new Set(files.map((file) => file.path));
  const strangers = (await filesBelow(tree, `${TREE_ROOT}/repositories`)).filter((path) => !listed.has(path));
  const [stranger] = strangers;
  if (stranger !== undefined) throw unlike(join(tree, stranger), `prestage.json does not list it, nor ${strangers.length - 1} more`);
  await Promise.all(files.map((file) => limit(async () => await checkFile(join(tree, file.path), file))));
}

async function checkFile(path: string, file: BundleFile): Promise<void> {
  if (file.path.endsWith('/link')) return await checkLink(path, file);
  const found = await lstat(path).catch(() => undefined);
  if (found !== undefined && !found.isFile()) throw unlike(path, 'it is no plain file');
}

async function checkLink(path: string, { sha256 }: BundleFile): Promise<void> {
  const got = await readText(path, LINK_LIMIT_BYTES).then(
    (text) => createHash('sha256').update(text).digest('hex'),
    (error: unknown) => messageOf(error),
  );
  if (got !== sha256) throw unlike(path, `it must have the sha256 ${sha256}, got ${got}`);
}

/** All that is no directory, with paths below the tree. */
async function filesBelow(tree: string, folder: string): Promise<readonly string[]> {
  const entries = await readdir(join(tree, folder), { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    throw unlike(join(tree, folder), error.code ?? error.message);
  });
  const found = await Promise.all(
    entries.map(async (entry) => {
      const path = `${folder}/${entry.name}`;
      return entry.isDirectory() ? await filesBelow(tree, path) : [path];
    }),
  );
  return found.flat();
}

function unlike(path: string, what: string): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `${path} is not as prestage.json has it: ${what}`,
    'Write the bundle to the partition again; where it fails again, change the disk',
  );
}
