import { quote } from '../host/exec.ts';
import type { Host } from '../host/host.ts';
import { PrestageError } from '../model/errors.ts';

/**
 * Features that new releases of mkfs.xfs turn on and that the kernel of RHEL 8 (4.18, RHCOS up to 4.12) does not mount: turned off, the most
 * recent first. A release that does not know an option refuses the whole line; then the next is tried. Source: mkfs.xfs(8); the file
 * lts_4.19.conf of xfsprogs says the same, but its first release cannot be read by mkfs.xfs itself.
 */
const CAUTIOUS: readonly (readonly string[])[] = [
  ['-m', 'bigtime=0,inobtcount=0', '-i', 'nrext64=0,exchange=0', '-n', 'parent=0'],
  ['-m', 'bigtime=0,inobtcount=0', '-i', 'nrext64=0'],
  ['-m', 'bigtime=0,inobtcount=0'],
  [],
];

/**
 * Makes an XFS that every RHCOS mounts. What the device held is lost.
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
    `Look for disk errors with dmesg, then give the command again`,
  );
}
