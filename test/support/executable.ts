import { resolve } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';

type Arch = 'x64' | 'arm64';

/** What this process has looked after already: to ask whether the sources are newer takes 1.7 s of CPU. */
const looked = new Map<Arch, Promise<unknown>>();

/** The path of the built executable of an architecture (as Node names it). It is built first if the sources are newer, which `npm test` has looked after for all tests. */
export async function builtExecutable(arch: Arch = 'x64'): Promise<string> {
  const isBuilt = arch === 'x64' && process.env.PRESTAGE_IS_BUILT === '1';
  if (!isBuilt && !looked.has(arch))
    looked.set(arch, output(execOnLinux, process.execPath, ['build.mjs', '--arch', arch, '--if-stale'], { timeoutMs: 300_000 }));
  await looked.get(arch);
  return resolve('dist', `prestage-agent-linux-${arch}`);
}
