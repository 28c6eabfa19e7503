import { output } from '../../host/exec.ts';
import type { Host } from '../../host/host.ts';

/** A squashfs holds seconds since 1970 as an unsigned number of 32 bits; mksquashfs(1) truncates later times. Source: Linux, fs/squashfs/squashfs_fs.h. */
const LAST_SECOND = 2 ** 32 - 1;

/**
 * The warning about files whose times a squashfs cannot hold; undefined if there are none. Source: find(1), -newerXY.
 * @param graphroot a containers-storage, unpacked
 * @param without paths in it that are not packed
 * @throws PrestageError ERR_TOOL_FAILED
 */
export async function lateFiles(
  host: Host,
  graphroot: string,
  without: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const found = await output(host.exec, 'find', ['overlay', '-newermt', `@${LAST_SECOND}`, '-print0'], { cwd: graphroot, signal });
  const late = found.split('\0').filter((path) => path !== '' && !without.some((one) => path === one || path.startsWith(`${one}/`)));
  const [first] = late;
  if (first === undefined) return undefined;
  const inImage = first.replace(/^overlay\/[0-9a-f]{64}\/diff/, '');
  return `${late.length} files have times after 2106, which a squashfs cannot hold; they have other times in the store image: ${inImage}${late.length > 1 ? ' and others' : ''}`;
}
