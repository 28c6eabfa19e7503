import { readFile } from 'node:fs/promises';

/** One mount of this process's mount namespace. */
export interface MountEntry {
  /** Device number, `8:1`. */
  readonly number: string;
  readonly target: string;
  /** Device node for file systems that lie on one. */
  readonly source: string;
}

/** What is mounted, in the order of mounting. */
export async function readMounts(): Promise<readonly MountEntry[]> {
  return parseMountInfo(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** Source: proc_pid_mountinfo(5): fields 3 and 5, and the second one after the hyphen; blanks and backslashes are octal escapes. */
export function parseMountInfo(text: string): readonly MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const [, , number, , target] = fields;
    const source = fields[fields.indexOf('-', 6) + 2];
    if (number === undefined || target === undefined || source === undefined) return [];
    return [{ number, target: unescapeOctal(target), source: unescapeOctal(source) }];
  });
}

function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
