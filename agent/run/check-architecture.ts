import type { StageBundle } from '../bundle/stage-bundle.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';

/**
 * Refuses a bundle that was built for other machines: its images would be present, but none of them would run.
 * @throws PrestageError ERR_BUNDLE_ARCHITECTURE
 */
export function checkArchitecture({ directory, architecture }: Pick<StageBundle, 'directory' | 'architecture'>, host: Host): void {
  if (architecture === undefined || architecture === host.architecture) return;
  throw new PrestageError(
    'ERR_BUNDLE_ARCHITECTURE',
    `the bundle in ${directory} was built for ${architecture}, but this node is ${host.architecture}`,
    `Build the bundle with --architecture ${host.architecture}, and write it to the partition`,
  );
}
