import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MARK = 'PRESTAGE_TEST_OWN_MOUNTS';

/**
 * Starts a program again in a mount namespace of its own, once, and ends with it: others start namespaces at any time, each with a copy of all that
 * is mounted, which keeps file systems and loop devices in use.
 * @param url `import.meta.url` of the program
 */
export function inOwnMounts(url: string): void {
  if (process.env[MARK] === '1') return;
  const args = ['--mount', process.execPath, fileURLToPath(url), ...process.argv.slice(2)];
  const { status } = spawnSync('unshare', args, { stdio: 'inherit', env: { ...process.env, [MARK]: '1' } });
  process.exit(status ?? 1);
}
