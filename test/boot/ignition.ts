import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execOnLinux, output } from '../../agent/host/exec.ts';

/** Ignition as the initial RAM disk of a node has it; Debian keeps it here. */
export const IGNITION = '/usr/lib/dracut/modules.d/30ignition/ignition';
const STAGES = ['fetch', 'files'] as const;

/** Has the real Ignition apply a config to the file tree of a machine, as the initial RAM disk does before the first boot. */
export async function applyIgnition(config: string, root: string, work: string): Promise<void> {
  const directory = await mkdtemp(join(work, 'ignition-'));
  const file = join(directory, 'config.ign');
  await writeFile(file, config);
  await output(execOnLinux, 'ignition-validate', [file]);
  for (const stage of STAGES) {
    const own = [
      '-config-cache',
      join(directory, 'cache'),
      '-neednet',
      join(directory, 'neednet'),
      '-state-file',
      join(directory, 'state'),
    ];
    const args = ['-platform', 'file', '-stage', stage, '-root', root, '-log-to-stdout', ...own];
    const { stdout, exitCode } = await execOnLinux(IGNITION, args, { env: { IGNITION_CONFIG_FILE: file } });
    // The last act of the files stage relabels what was written; a root without SELinux has nothing to relabel with.
    const onlyLabels = /CRITICAL : Ignition failed: failed to handle relabeling: failed to open \/etc\/selinux\/config/.test(stdout);
    if (exitCode !== 0 && !(stage === 'files' && onlyLabels))
      throw new Error(`Ignition's stage ${stage} ended with ${exitCode}:\n${stdout}`);
  }
}
