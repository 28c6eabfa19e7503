import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MARK = 'PRESTAGE_TEST_OWN_MOUNTS';
const LIMIT_MS = 900_000;
/** Only what a file starts counts there as running, and ends with it. */
const OWN_PIDS = ['--pid', '--fork', '--kill-child', '--mount-proc'];

/**
 * Starts a test file or a program again in a mount namespace of its own, once, and ends with it; given as the first statement. Others start
 * namespaces at any time, each with a copy of all that is mounted, which keeps file systems and loop devices in use. What a test file reports goes
 * on to its runner. Without root it runs where it is.
 * @param url `import.meta.url` of the file
 * @param options.ownPids in a PID namespace, too
 */
export function inOwnMounts(url: string, { ownPids = false }: { readonly ownPids?: boolean } = {}): void {
  if (process.env[MARK] === '1' || process.getuid?.() !== 0) return;
  const own = process.argv[1] === fileURLToPath(url) ? process.argv.slice(2) : [];
  const args = ['--mount', ...(ownPids ? OWN_PIDS : []), process.execPath, ...process.execArgv, fileURLToPath(url), ...own];
  const { status, error } = spawnSync('unshare', args, { stdio: 'inherit', env: { ...process.env, [MARK]: '1' }, timeout: LIMIT_MS });
  if (error !== undefined) throw error;
  process.exit(status ?? 1);
}
