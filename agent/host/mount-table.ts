import { readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** One mount of this process's mount namespace. */
export interface MountEntry {
  /** Identifies the mount while it exists; the kernel can reuse the number afterwards. */
  readonly id: string;
  /** Device number, `8:1`. */
  readonly number: string;
  readonly target: string;
  /** Device node, for file systems on a device. */
  readonly source: string;
}

/** All mounts, in the order of mounting. */
export async function readMounts(): Promise<readonly MountEntry[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** The path as in the mount table. The last part is not accessed, because a file system that is mounted there may not respond. */
export async function canonical(path: string): Promise<string> {
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  return join(parent, basename(path));
}

/** Source: proc_pid_mountinfo(5): fields 1, 3 and 5, and the second one after the hyphen; spaces and backslashes are octal escapes. */
export function parseMountInfo(text: string): readonly MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const [id, , number, , target] = fields;
    const source = fields[fields.indexOf('-', 6) + 2];
    if (id === undefined || number === undefined || target === undefined || source === undefined) return [];
    return [{ id, number, target: unescapeOctal(target), source: unescapeOctal(source) }];
  });
}

function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
