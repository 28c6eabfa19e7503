import { exitCodeOf, PrestageError } from '../model/errors.ts';
import { checkMountedStore } from '../run/check.ts';
import type { CommandSpec } from './command-spec.ts';
import { hostFor, stepFor } from './context.ts';
import { stopSignal } from './interrupt.ts';
import { settingFlags, settingsOf } from './setting-flags.ts';

const REMEDY = 'Give the command again if a store image is still mounted; whoever closes a store ends its check';

/** `prestage-agent check-store`: hashes the mounted store image; a run with trust by background starts it. */
export const checkStoreCommand: CommandSpec = {
  name: 'check-store',
  description:
    'Hash the store image that is mounted. Where its bytes are wrong, the engines are made to work without it. A run that mounts first starts this by itself.',
  flags: settingFlags(['root']),
  forms: ['text', 'json'],
  examples: ['prestage-agent check-store'],
  act: async (terminal, options) => {
    requireRoot();
    const host = hostFor(terminal, settingsOf(options));
    const report = await checkMountedStore(host, { step: stepFor(terminal, host), signal: stopSignal(terminal, REMEDY) });
    const data = { apiVersion: 'prestage-agent/v1', kind: 'StoreCheck', check: report };
    if (report.kind === 'damaged') {
      const { code, message, remedy } = report.error;
      return { data, text: `${code}: ${message}\n  next: ${remedy}`, exitCode: exitCodeOf(code) };
    }
    return { data, text: report.kind === 'none' ? 'no store image is mounted' : 'the mounted store image is intact', exitCode: 0 };
  },
};

/** Who may not read a store cannot say that it is intact, damaged or absent. */
function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new PrestageError(
    'ERR_USAGE',
    'check-store reads the mounted store image, which only root may do',
    'Give the command as root: sudo prestage-agent check-store',
  );
}
