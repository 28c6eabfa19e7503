import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';

/** A new file in the scratch space, for sequential writing. */
export interface ScratchFile extends Disposable {
  write(bytes: Uint8Array): void;
}

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Creates a file, mode 0600, with blocking writes: for a worker thread. Never opens an existing file.
 * @param name one file name, without a slash
 * @throws PrestageError ERR_SPACE_SCRATCH, ERR_ARCHIVE_WRITE; from `write` too
 */
export function createScratchFile(directory: string, name: string): ScratchFile {
  const path = join(directory, name);
  const descriptor = writing(path, () => openSync(path, NEW_FILE, 0o600));
  return {
    write: (bytes) => {
      for (let offset = 0; offset < bytes.length; ) {
        const from = offset;
        offset += writing(path, () => writeSync(descriptor, bytes, from, bytes.length - from));
      }
    },
    [Symbol.dispose]: () => closeSync(descriptor),
  };
}

function writing<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error';
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new PrestageError(
        'ERR_SPACE_SCRATCH',
        `${path}: no space left in the scratch space`,
        'Free space there, or choose another place with --scratch DIR',
        { cause },
      );
    }
    throw new PrestageError(
      'ERR_ARCHIVE_WRITE',
      `${path}: cannot be written: ${reasonOf(cause)}`,
      'Check the scratch space, or choose another place with --scratch DIR',
      { cause },
    );
  }
}
