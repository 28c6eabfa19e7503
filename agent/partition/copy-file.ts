import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { copyHashed } from '../host/hashed-copy.ts';
import type { BundleFile } from '../model/bundle.ts';
import { PrestageError } from '../model/errors.ts';
import { reasonOf } from '../model/system-error.ts';
import { makeParents, temporaryPath } from './inner-files.ts';

export interface CopyOptions {
  /** Top directory of the bundle. */
  readonly from: string;
  /** Top directory of the mounted partition. */
  readonly to: string;
  /** Called with the number of bytes just written. */
  readonly onBytes: (bytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Copies a file of a bundle and hashes what it reads. The file gets its final name only if the hash matches the manifest. Nothing is synced here:
 * the caller syncs once after all files.
 * @throws PrestageError ERR_BUNDLE_FILE if the source does not match the manifest, ERR_SPACE_PARTITION, ERR_PARTITION_WRITE; the
 * signal's reason
 */
export async function copyFile(file: BundleFile, options: CopyOptions): Promise<void> {
  const path = join(options.to, file.path);
  const temporary = join(options.to, temporaryPath(file.path));
  await using source = await openSource(join(options.from, file.path), file);
  try {
    await makeParents(options.to, file.path);
    await rm(temporary, { force: true });
    await using target: FileHandle = await open(temporary, 'wx', source.isExecutable ? 0o755 : 0o644);
    checkSource(source.path, file, await copyHashed({ read: source.read, target, onBytes: options.onBytes, signal: options.signal }));
    await rename(temporary, path);
  } catch (error) {
    // If the device is gone, this fails, too. The first error says more.
    await rm(temporary, { force: true }).catch(() => undefined);
    throw writeError(path, error);
  }
}

interface Source extends AsyncDisposable {
  readonly path: string;
  readonly isExecutable: boolean;
  readonly read: (buffer: Buffer) => Promise<number>;
}

async function openSource(path: string, file: BundleFile): Promise<Source> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (cause: NodeJS.ErrnoException) => {
      throw unreadable(path, cause);
    },
  );
  const found = await handle.stat();
  if (!found.isFile() || found.size !== file.sizeBytes) {
    await handle.close();
    throw sourceFault(path, found.isFile() ? `has ${found.size} bytes, but the manifest says ${file.sizeBytes}` : 'is not a regular file');
  }
  return {
    path,
    isExecutable: (found.mode & 0o111) !== 0,
    read: async (buffer) => {
      try {
        return (await handle.read(buffer, 0, buffer.length)).bytesRead;
      } catch (error) {
        throw unreadable(path, error);
      }
    },
    [Symbol.asyncDispose]: async () => await handle.close(),
  };
}

function checkSource(path: string, file: BundleFile, found: { readonly sizeBytes: number; readonly sha256: string }): void {
  if (found.sizeBytes !== file.sizeBytes) throw sourceFault(path, `has ${found.sizeBytes} bytes, but the manifest says ${file.sizeBytes}`);
  if (found.sha256 !== file.sha256) throw sourceFault(path, `has the sha256 ${found.sha256}, but the manifest says ${file.sha256}`);
}

function sourceFault(path: string, what: string): PrestageError {
  return new PrestageError('ERR_BUNDLE_FILE', `${path} ${what}`, 'Build the bundle again, then write it again: intact files are kept');
}

function unreadable(path: string, cause: unknown): PrestageError {
  return new PrestageError(
    'ERR_BUNDLE_FILE',
    `${path} cannot be read: ${reasonOf(cause)}`,
    'Check the disk that holds the bundle, then write it again',
    { cause },
  );
}

/** Turns an error of the file system into one that an operator can act upon. Other errors are returned unchanged. */
export function writeError(path: string, error: unknown): unknown {
  if (error instanceof PrestageError || !(error instanceof Error && 'code' in error && 'syscall' in error)) return error;
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT') {
    return new PrestageError(
      'ERR_SPACE_PARTITION',
      `${path} cannot be written: no space left`,
      'Create a larger partition: prestage-agent partition create DEVICE --replace --size SIZE',
      { cause: error },
    );
  }
  return new PrestageError(
    'ERR_PARTITION_WRITE',
    `${path} cannot be written: ${reasonOf(error)}`,
    'Check that the disk is present and healthy (lsblk, dmesg), then run the command again: it continues where it stopped',
    { cause: error },
  );
}
