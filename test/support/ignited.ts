import assert from 'node:assert/strict';
import { chmod, mkdtemp, writeFile } from 'node:fs/promises';
import { execOnLinux, output } from '../../agent/host/exec.ts';

/** Ignition as the initial RAM disk of a node has it; Debian keeps it here. */
const IGNITION = '/usr/lib/dracut/modules.d/30ignition/ignition';

/**
 * An empty root after the real Ignition has validated a config and applied it.
 * @param prefix of the root's path; config and cache lie beside it
 */
export async function ignitedRoot(prefix: string, text: string): Promise<string> {
  const root = await mkdtemp(prefix);
  await chmod(root, 0o755);
  const config = `${root}.ign`;
  await writeFile(config, text);
  await output(execOnLinux, 'ignition-validate', [config]);
  for (const act of ['fetch', 'files']) {
    const places = ['-root', root, '-config-cache', `${root}.cache`, '-neednet', `${root}.neednet`];
    const args = ['-platform', 'file', '-stage', act, '-log-to-stdout', ...places];
    const { stdout, exitCode } = await execOnLinux(IGNITION, args, { env: { IGNITION_CONFIG_FILE: config } });
    // The last act of the files stage relabels what was written; a root without SELinux has nothing to relabel with.
    const onlyLabels = /CRITICAL : Ignition failed: failed to handle relabeling: failed to open \/etc\/selinux\/config/.test(stdout);
    assert.ok(exitCode === 0 || (act === 'files' && onlyLabels), stdout);
  }
  return root;
}
