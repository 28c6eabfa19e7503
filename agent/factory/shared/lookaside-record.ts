import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { ifMissing } from '../../host/files.ts';
import { readPlainFile } from '../../host/plain-file.ts';
import { PrestageError } from '../../model/errors.ts';
import { LOOKASIDE_FILE, LOOKASIDE_LIMIT_BYTES, type LookasideEntry, parseLookasideRecord } from '../../signatures/lookaside.ts';

/**
 * The GPG signatures that a pull has fetched into an OCI image layout; none if it has no record of signatures.
 * @param file the record of images, or RELEASE_SIGNATURES_FILE
 * @throws PrestageError ERR_SIGNATURE for a record that is not a plain file, is larger than 16 MiB, or cannot be read
 */
export async function readLookasideRecord(layout: string, file = LOOKASIDE_FILE): Promise<readonly LookasideEntry[]> {
  const path = join(layout, file);
  const bytes = await readPlainFile(path, LOOKASIDE_LIMIT_BYTES);
  if (bytes !== undefined) return parseLookasideRecord(bytes.toString('utf8'), path);
  if ((await lstat(path).catch(ifMissing(() => undefined))) === undefined) return [];
  throw new PrestageError(
    'ERR_SIGNATURE',
    `${path} cannot be read: it is not a plain file of at most ${LOOKASIDE_LIMIT_BYTES} bytes`,
    `Remove ${path}, then pull again: pulled blobs are kept`,
  );
}
