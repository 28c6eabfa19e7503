import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { readText } from '../extract/archives.ts';
import { BUNDLE_FILE, BUNDLE_LIMIT_BYTES, type Bundle, parseBundle } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';

/**
 * The manifest of a bundle, and its own hash.
 * @param pinnedSha256 hash that it must have, where one is pinned
 * @throws PrestageError ERR_BUNDLE_PIN, ERR_BUNDLE
 */
export async function readBundle(
  directory: string,
  pinnedSha256: string | undefined,
): Promise<{ readonly bundle: Bundle; readonly sha256: string }> {
  const path = join(directory, BUNDLE_FILE);
  const text = await readText(path, BUNDLE_LIMIT_BYTES);
  const found = createHash('sha256').update(text).digest('hex');
  if (pinnedSha256 !== undefined && found !== pinnedSha256) {
    throw new PrestageError(
      'ERR_BUNDLE_PIN',
      `${path} has the sha256 ${found}, pinned is ${pinnedSha256}`,
      'Write the bundle that the ignition was rendered for, or render the ignition for this one',
    );
  }
  return { bundle: parseBundle(text, path), sha256: found };
}
