import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** The bytes of a plain file; undefined if it does not exist, is not a plain file or exceeds the limit. Links are not followed. */
export async function readPlainFile(path: string, limitBytes: number): Promise<Buffer | undefined> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(() => undefined);
  if (file === undefined) return undefined;
  await using opened: FileHandle = file;
  const found = await opened.stat();
  return found.isFile() && found.size <= limitBytes ? await opened.readFile() : undefined;
}
