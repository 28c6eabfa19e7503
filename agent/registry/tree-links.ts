import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { readText } from '../extract/archives.ts';
import type { BundleFile } from '../model/bundle.ts';
import { messageOf, PrestageError } from '../model/errors.ts';

/** A link holds one digest. Source: distribution, registry/storage/paths.go. */
const LINK_LIMIT_BYTES = 1024;
/** Links that are read at a time. */
const AT_ONCE = 64;

/**
 * Holds the links of a registry's tree against prestage.json. They decide what a tag means, and unlike blobs nothing in their names does.
 * @param files of the tree as prestage.json has them, with paths below it
 * @throws PrestageError ERR_BUNDLE_FILE
 */
export async function checkLinks(tree: string, files: readonly BundleFile[]): Promise<void> {
  const links = files.filter((file) => file.path.endsWith('/link'));
  for (let from = 0; from < links.length; from += AT_ONCE) {
    await Promise.all(links.slice(from, from + AT_ONCE).map(async (file) => await checkLink(join(tree, file.path), file)));
  }
}

async function checkLink(path: string, { sha256 }: BundleFile): Promise<void> {
  const got = await readText(path, LINK_LIMIT_BYTES).then(
    (text) => createHash('sha256').update(text).digest('hex'),
    (error: unknown) => messageOf(error),
  );
  if (got === sha256) return;
  throw new PrestageError(
    'ERR_BUNDLE_FILE',
    `${path} is not as prestage.json has it, with the sha256 ${sha256}: ${got}`,
    'Write the bundle to the partition again; where it fails again, change the disk',
  );
}
