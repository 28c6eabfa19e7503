import { resolve } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';

/** The path of the built executable of an architecture (as Node names it). It is built first where the sources are newer. */
export async function builtExecutable(arch: 'x64' | 'arm64' = 'x64'): Promise<string> {
  await output(execOnLinux, process.execPath, ['build.mjs', '--arch', arch, '--if-stale'], { timeoutMs: 300_000 });
  return resolve('dist', `prestage-agent-linux-${arch}`);
}
