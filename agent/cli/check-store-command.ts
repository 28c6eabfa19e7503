import { exitCodeOf } from '../model/errors.ts';
import { checkMountedStore } from '../run/check.ts';
import type { CommandSpec } from './command-spec.ts';
import { actFor, hostFor } from './context.ts';
import { stopSignal } from './interrupt.ts';
import { requireRoot } from './require-root.ts';
import { quietFlag, settingFlags, settingsOf } from './setting-flags.ts';

const REMEDY = 'If a store image is still mounted, run the command again; closing a store also ends its check';

/** `prestage-agent check-store`: hashes the mounted store image; a run with trust `background` starts it. */
export const checkStoreCommand: CommandSpec = {
  name: 'check-store',
  summary: 'Check the bytes of the mounted store image',
  description:
    'Hash the mounted store image. If its bytes are wrong, make the engines work without it. A run with trust "background" starts this by itself.',
  flags: [...settingFlags(['root']), quietFlag],
  forms: ['text', 'json'],
  examples: ['prestage-agent check-store'],
  answer: async (terminal, options) => {
    const host = hostFor(terminal, settingsOf(options));
    // A user who cannot read a store cannot tell whether it is intact, damaged or absent.
    requireRoot(host, 'check-store', 'reads the mounted store image');
    const report = await checkMountedStore(host, { act: actFor(terminal, host), signal: stopSignal(terminal, REMEDY) });
    const data = { apiVersion: 'prestage-agent/v1', kind: 'StoreCheck', check: report };
    if (report.kind === 'damaged') {
      const { code, message, remedy } = report.error;
      return { data, text: `${code}: ${message}\n  next: ${remedy}`, exitCode: exitCodeOf(code) };
    }
    return { data, text: report.kind === 'none' ? 'no store image is mounted' : 'the mounted store image is intact', exitCode: 0 };
  },
};
