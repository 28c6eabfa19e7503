import type { Host } from '../../host/host.ts';
import { PrestageError } from '../../model/errors.ts';
import type { BuildInput } from './input.ts';
import type { PayloadKind } from './plan.ts';

/** Programs that a payload needs, with the packages that have them (Debian; RHEL and Fedora). */
const TOOLS: Readonly<Partial<Record<PayloadKind, Readonly<Record<string, string>>>>> = {
  store: {
    skopeo: 'skopeo',
    podman: 'podman',
    mksquashfs: 'squashfs-tools',
    veritysetup: 'cryptsetup-bin (veritysetup)',
    unshare: 'util-linux',
  },
  archives: { tar: 'tar', gzip: 'gzip' },
};

/**
 * Looks for the programs that the payloads need, before minutes of work are spent.
 * @throws PrestageError ERR_TOOL_MISSING, naming all of them
 */
export async function requireTools(host: Host, payloads: readonly PayloadKind[], input: BuildInput['kind']): Promise<void> {
  const needed = payloads.flatMap((kind) => (kind === 'archives' && input === 'archives' ? [] : Object.entries(TOOLS[kind] ?? {})));
  const found = await Promise.all(
    needed.map(async ([program, name]) => {
      const result = await host.exec('sh', ['-c', 'command -v -- "$1"', 'sh', program]);
      return result.exitCode === 0 ? [] : [{ program, name }];
    }),
  );
  const missing = found.flat();
  if (missing.length === 0) return;
  throw new PrestageError(
    'ERR_TOOL_MISSING',
    `the payloads need programs that are not installed: ${missing.map(({ program }) => program).join(', ')}`,
    `Install: ${missing.map(({ name }) => name).join(', ')}`,
  );
}
