import { type Exec, output } from './exec.ts';

/**
 * Writes all cached data of the file systems of these paths to their devices. A write error of a dead disk is reported here at the latest.
 * Source: sync(1), --file-system; syncfs(2).
 * @throws PrestageError ERR_TOOL_FAILED
 */
export async function syncFileSystem(exec: Exec, ...paths: readonly string[]): Promise<void> {
  await output(exec, 'sync', ['--file-system', ...paths]);
}
