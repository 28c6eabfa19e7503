import { quote } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';

/**
 * Options that turn off features of new mkfs.xfs releases which the kernel of RHEL 8 (4.18, RHCOS up to 4.12) cannot mount, newest features first.
 * A mkfs.xfs that does not know an option refuses the whole line; then the next line is tried. Source: mkfs.xfs(8). The file lts_4.19.conf of
 * xfsprogs says the same, but mkfs.xfs cannot read its first release.
 */
const CAUTIOUS: readonly (readonly string[])[] = [
  ['-m', 'bigtime=0,inobtcount=0', '-i', 'nrext64=0,exchange=0', '-n', 'parent=0'],
  ['-m', 'bigtime=0,inobtcount=0', '-i', 'nrext64=0'],
  ['-m', 'bigtime=0,inobtcount=0'],
  [],
];

/**
 * Makes an XFS that every RHCOS can mount. The previous content of the device is lost.
 * @throws PrestageError ERR_TOOL_FAILED
 */
export async function makeXfs(host: Host, device: string): Promise<void> {
  let stderr = '';
  for (const options of CAUTIOUS) {
    const result = await host.exec('mkfs.xfs', ['-q', '-f', ...options, device]);
    if (result.exitCode === 0) return;
    stderr = result.stderr;
    if (!/unknown option|illegal value|invalid option/i.test(stderr)) break;
  }
  throw new PrestageError(
    'ERR_TOOL_FAILED',
    `mkfs.xfs ${device} failed: ${quote(stderr)}`,
    `Look for disk errors with dmesg, then run the command again`,
  );
}
