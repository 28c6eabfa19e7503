import { readFile } from 'node:fs/promises';
import { encodeDataUrl } from '../model/data-url.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import type { IgnitionConfig } from './config.ts';

export type IgnitionFile = NonNullable<NonNullable<IgnitionConfig['storage']>['files']>[number];

/** A file of ours in an override; it replaces an existing file. */
export function ownFile(path: string, text: string, mode = 0o644): IgnitionFile {
  return { path, overwrite: true, mode, contents: { source: encodeDataUrl(text) } };
}

/** A file that the author names with a flag. */
export interface NamedFile {
  readonly path: string;
  /** `--ca` */
  readonly flag: string;
  /** Start of the message, such as `the CA`. */
  readonly what: string;
  /** Kind of file in the remedy, such as `certificate`. */
  readonly kind: string;
}

/**
 * Reads a file that the author names.
 * @throws PrestageError ERR_USAGE if it cannot be read
 */
export async function readNamedFile({ path, flag, what, kind }: NamedFile): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new PrestageError(
      'ERR_USAGE',
      `${what} ${path} cannot be read: ${reasonOf(error)}`,
      `Set ${flag} to the path of a readable ${kind}`,
      { cause: error },
    );
  }
}
