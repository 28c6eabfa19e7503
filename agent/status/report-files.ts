import { constants } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, hostPath } from '../host/host.ts';

/** Longest part of a report, in bytes. */
const PART_LIMIT_BYTES = 1024 * 1024;
/** Most files of one directory. */
const FILES_LIMIT = 100;
/** Deepest directory, and most entries, that a listing shows. */
const LISTING = { depth: 3, entries: 2000 };

/** A text, and how many bytes of it were left out because of PART_LIMIT_BYTES. */
export interface CutText {
  readonly text: string;
  readonly cutBytes: number;
}

/**
 * Reads the beginning of a file, or its end if the last lines matter most. Reads regular files only and follows no link.
 * @throws NodeJS.ErrnoException
 */
export async function readCut(path: string, keep: 'start' | 'end'): Promise<CutText> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  const found = await file.stat();
  if (!found.isFile()) throw new Error('it is not a regular file');
  const cutBytes = Math.max(0, found.size - PART_LIMIT_BYTES);
  const buffer = Buffer.alloc(found.size - cutBytes);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, keep === 'end' ? cutBytes : 0);
  return { text: buffer.toString('utf8', 0, bytesRead), cutBytes };
}

/** The end of a text. */
export function cutText(text: string): CutText {
  const bytes = Buffer.from(text);
  const cutBytes = Math.max(0, bytes.length - PART_LIMIT_BYTES);
  return { text: cutBytes === 0 ? text : bytes.toString('utf8', cutBytes), cutBytes };
}

/** The files on the node that match a pattern. `*` matches any text within the last part of the path. */
export async function namedFiles(host: Host, pattern: string): Promise<readonly string[]> {
  const star = pattern.lastIndexOf('*');
  if (star < 0) return [pattern];
  const directory = pattern.slice(0, pattern.lastIndexOf('/'));
  const [before = '', after = ''] = pattern.slice(directory.length + 1).split('*');
  const names = await readdir(hostPath(host, directory)).catch(() => []);
  const fitting = names.filter((name) => !name.startsWith('.') && name.startsWith(before) && name.endsWith(after));
  return fitting
    .toSorted()
    .slice(0, FILES_LIMIT)
    .map((name) => join(directory, name));
}

/** Lists a directory of the node: mode, owner, size and name of each entry. Does not descend into mounts. */
export async function listing(host: Host, directory: string): Promise<string> {
  const lines: string[] = [];
  const walk = async (path: string, depth: number, device: number | undefined): Promise<void> => {
    if (lines.length >= LISTING.entries) return;
    const found = await lstat(hostPath(host, path)).catch((error: NodeJS.ErrnoException) => error);
    if (found instanceof Error) {
      lines.push(`${path}: ${found.code}`);
      return;
    }
    const isOther = device !== undefined && found.dev !== device;
    const kind = found.isDirectory() ? 'directory' : found.isFile() ? 'file' : found.isSymbolicLink() ? 'link' : 'special';
    const mode = (found.mode & 0o7777).toString(8).padStart(4, '0');
    lines.push(`${kind.padEnd(9)} ${mode} ${found.uid}:${found.gid} ${found.size} ${path}${isOther ? ' (mounted)' : ''}`);
    if (!found.isDirectory() || isOther || depth === 0) return;
    const names: readonly string[] = await readdir(hostPath(host, path)).catch(() => []);
    for (const name of names.toSorted()) await walk(join(path, name), depth - 1, found.dev);
  };
  await walk(directory, LISTING.depth, undefined);
  return lines.join('\n');
}
