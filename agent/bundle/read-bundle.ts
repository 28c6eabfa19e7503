import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from '../host/files.ts';
import { BUNDLE_FILE, BUNDLE_LIMIT_BYTES, type Bundle, PARTIAL_FILE, parseBundle } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** A bundle whose manifest has been read. The files that it lists have not been checked. */
export interface SealedBundle {
  /** Top directory of the bundle. */
  readonly directory: string;
  readonly bundle: Bundle;
  /** Hash of the manifest's bytes, 64 lower-case hex digits, which `--bundle-sha256` pins. */
  readonly sha256: string;
}

/** Classifies a folder by its top directory alone: `partial` if a bundle is being written there or its writing was interrupted; `none` without a manifest. */
export async function sealOf(directory: string): Promise<'sealed' | 'partial' | 'none'> {
  if (await isThere(join(directory, PARTIAL_FILE))) return 'partial';
  return (await isThere(join(directory, BUNDLE_FILE))) ? 'sealed' : 'none';
}

/**
 * Reads the manifest of the bundle in a folder.
 * @param pinnedSha256 the only hash that the manifest may have; if left out, any hash
 * @throws PrestageError ERR_BUNDLE_PARTIAL, ERR_BUNDLE_PIN, ERR_BUNDLE
 */
export async function readBundle(directory: string, pinnedSha256?: string): Promise<SealedBundle> {
  if ((await sealOf(directory)) === 'partial') throw partialBundle(directory);
  return await readManifest(directory, (sha256) => {
    if (pinnedSha256 !== undefined && sha256 !== pinnedSha256) throw otherPin(directory, sha256, pinnedSha256);
  });
}

/**
 * Reads only the manifest, even if the bundle is incomplete.
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
 * Reads the bytes of a manifest again, and checks that they still have the hash of the first reading.
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
    `${join(directory, PARTIAL_FILE)} says that the bundle is incomplete`,
    'Run the command that wrote it again: it continues where it stopped',
  );
}

function otherPin(directory: string, sha256: string, pinnedSha256: string): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_PIN',
    `${join(directory, BUNDLE_FILE)} has the sha256 ${sha256}, but ${pinnedSha256} is pinned`,
    'Write the bundle that was pinned, or render the ignition again with --bundle',
  );
}

async function readPlainFile(path: string): Promise<Buffer> {
  await using file: FileHandle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw unreadable(path, reasonOf(cause), cause);
    },
  );
  const found = await file.stat();
  if (!found.isFile()) throw unreadable(path, 'it is not a regular file');
  if (found.size > BUNDLE_LIMIT_BYTES) throw unreadable(path, `it has ${found.size} bytes, more than the limit of ${BUNDLE_LIMIT_BYTES}`);
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
