import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { join } from 'node:path';
import { BUNDLE_FILE, BUNDLE_LIMIT_BYTES, type Bundle, PARTIAL_FILE, parseBundle } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';

/** A bundle whose manifest has been read. Nothing that it lists has been looked at. */
export interface SealedBundle {
  /** The bundle's top. */
  readonly directory: string;
  readonly bundle: Bundle;
  /** Of the manifest's bytes, 64 lower-case hex digits: what `--bundle-sha256` pins. */
  readonly sha256: string;
}

/** What a folder is, judged by its top alone: sealed, a bundle that is being written or whose writing was ended, or without a manifest. */
export async function sealOf(directory: string): Promise<'sealed' | 'partial' | 'none'> {
  if (await isThere(join(directory, PARTIAL_FILE))) return 'partial';
  return (await isThere(join(directory, BUNDLE_FILE))) ? 'sealed' : 'none';
}

/**
 * Reads the manifest of a bundle that a folder holds.
 * @param pinnedSha256 the only hash that the manifest may have; any where left out
 * @throws PrestageError ERR_BUNDLE_PARTIAL, ERR_BUNDLE_PIN, ERR_BUNDLE
 */
export async function readBundle(directory: string, pinnedSha256?: string): Promise<SealedBundle> {
  if ((await sealOf(directory)) === 'partial') throw partialBundle(directory);
  return await readManifest(directory, (sha256) => {
    if (pinnedSha256 !== undefined && sha256 !== pinnedSha256) throw otherPin(directory, sha256, pinnedSha256);
  });
}

/**
 * Reads the manifest alone, also where the bundle is not whole.
 * @param judge called with the hash of the manifest's bytes before they are parsed
 * @throws PrestageError ERR_BUNDLE; what `judge` throws
 */
export async function readManifest(directory: string, judge?: (sha256: string) => void): Promise<SealedBundle> {
  const path = join(directory, BUNDLE_FILE);
  const bytes = await readPlainFile(path);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  judge?.(sha256);
  return { directory, bundle: parseBundle(bytes.toString('utf8'), path), sha256 };
}

/**
 * The bytes of a manifest that was read before: they still have the hash that they had then.
 * @throws PrestageError ERR_BUNDLE, ERR_BUNDLE_PIN
 */
export async function manifestBytes(directory: string, sha256: string): Promise<Buffer> {
  const bytes = await readPlainFile(join(directory, BUNDLE_FILE));
  const got = createHash('sha256').update(bytes).digest('hex');
  if (got !== sha256) throw otherPin(directory, got, sha256);
  return bytes;
}

export function partialBundle(directory: string): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_PARTIAL',
    `${join(directory, PARTIAL_FILE)} says that the bundle was not written to its end`,
    'Give the command that wrote it again: it goes on where it was ended',
  );
}

function otherPin(directory: string, sha256: string, pinnedSha256: string): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_PIN',
    `${join(directory, BUNDLE_FILE)} has the sha256 ${sha256}, and ${pinnedSha256} is pinned`,
    'Put the bundle there that the pin was taken from, or render the ignition again with --bundle',
  );
}

async function readPlainFile(path: string): Promise<Buffer> {
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw unreadable(path, cause.code ?? cause.message, cause);
    },
  );
  const found = await file.stat();
  if (!found.isFile()) throw unreadable(path, 'it is no plain file');
  if (found.size > BUNDLE_LIMIT_BYTES) throw unreadable(path, `it has ${found.size} bytes, more than ${BUNDLE_LIMIT_BYTES}`);
  return await file.readFile();
}

function unreadable(path: string, reason: string, cause?: unknown): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE',
    `${path} cannot be read: ${reason}`,
    'Write the bundle to the partition again, or build it again at the factory',
    cause === undefined ? undefined : { cause },
  );
}

/** Also a broken link or a directory of the name: whatever lies there has to be explained. */
async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}
