import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';
import { cached } from '../support/cache.ts';

/** QEMU 10 out of Debian 13, whatever this machine is: QEMU 7.2 of Debian 12 lets emulated machines crash at random. */
const SUITE = 'trixie';
const LIMIT_MS = 600_000;

/** A tree with QEMU and all that it needs, kept between runs. */
export async function qemuTree(): Promise<string> {
  const directory = await cached({ name: 'vm-qemu', makers: [import.meta.filename] }, async (made) => {
    const args = ['--variant=extract', '--format=directory', '--include=qemu-system-x86', SUITE, join(made, 'tree')];
    await output(execOnLinux, 'mmdebstrap', args, { timeoutMs: LIMIT_MS });
  });
  return join(directory, 'tree');
}
