import { execOnLinux } from '../../agent/host/exec.ts';

/** The last lines of a machine's journal, read from outside, whether it runs or not. */
export async function lastLines(journal: string, count: number): Promise<readonly string[]> {
  const { stdout } = await execOnLinux('journalctl', [
    '-D',
    journal,
    '-n',
    String(count),
    '--no-pager',
    '--quiet',
    '-o',
    'short-monotonic',
  ]);
  return stdout.split('\n').filter(Boolean);
}

/** What the journal has of one identifier in the last boot, message by message. */
export async function messagesOf(journal: string, identifier: string): Promise<readonly string[]> {
  const { stdout } = await execOnLinux('journalctl', ['-D', journal, '-b', '-t', identifier, '--no-pager', '--quiet', '-o', 'cat']);
  return stdout.split('\n').filter(Boolean);
}
