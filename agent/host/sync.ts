import { type Exec, output } from './exec.ts';

/**
 * Writes all that is cached of the file systems of these paths to their devices. Writes that a dead disk did not accept show up here at the latest.
 * Source: sync(1), --file-system; syncfs(2).
 * @throws PrestageError ERR_TOOL_FAILED
 */
export async function syncFileSystem(exec: Exec, ...paths: readonly string[]): Promise<void> {
  await output(exec, 'sync', ['--file-system', ...paths]);
}
