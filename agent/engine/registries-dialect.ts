import { output } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import type { MirrorDialect } from './registries-plan.ts';

/** The first podman with containers/image 5.22, which knows `pull-from-mirror`; older ones silently ignore the key. */
const SINCE = { major: 4, minor: 2 } as const;

/**
 * The dialect that this node's podman reads; CRI-O and skopeo of one release of the system have the same library.
 * @throws PrestageError ERR_TOOL_MISSING or ERR_TOOL_FAILED
 */
export async function mirrorDialect(host: Pick<Host, 'exec'>): Promise<MirrorDialect> {
  return dialectOf(await output(host.exec, 'podman', ['--version']));
}

/**
 * The dialect by what `podman --version` prints (`podman version 4.3.1`). A version that cannot be read is treated as a future
 * one, because all past ones can be read.
 */
export function dialectOf(versionText: string): MirrorDialect {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(versionText)?.map(Number) ?? [];
  if (major === undefined || minor === undefined) return 'per-mirror';
  return major > SINCE.major || (major === SINCE.major && minor >= SINCE.minor) ? 'per-mirror' : 'per-registry';
}
