import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { PrestageError } from '../model/errors.ts';
import { ifMissing } from './files.ts';
import { type Host, hostPath } from './host.ts';

/** Largest file that is read: all mirrors of a large cluster take less than 1 MiB. */
const CONFIGURATION_LIMIT_BYTES = 16 * 1024 * 1024;

/**
 * The text of a configuration file of the engines, by its path on the node; undefined if it is missing. Links are followed, as engines do. A
 * pipe or a device is not read, because the read might never end.
 * @throws PrestageError ERR_SYSTEM_FILE for a file that is not a plain file, or is larger than 16 MiB
 * @throws NodeJS.ErrnoException for a file that this user may not read
 */
export async function readConfiguration(host: Host, path: string): Promise<string | undefined> {
  const opened = await open(hostPath(host, path), constants.O_RDONLY | constants.O_NONBLOCK).catch(ifMissing(() => undefined));
  if (opened === undefined) return undefined;
  await using file: FileHandle = opened;
  const found = await file.stat();
  if (!found.isFile()) throw refusalError(`${path} is not a plain file`);
  if (found.size > CONFIGURATION_LIMIT_BYTES) {
    throw refusalError(`${path} has ${found.size} bytes, more than ${CONFIGURATION_LIMIT_BYTES}`);
  }
  return await file.readFile('utf8');
}

function refusalError(message: string): PrestageError {
  return new PrestageError('ERR_SYSTEM_FILE', message, 'Replace it with a plain file, or remove it: engines read it, too');
}
