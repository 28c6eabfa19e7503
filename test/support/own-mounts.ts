import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { execOnLinux } from '../../agent/host/exec.ts';

const MARK = 'PRESTAGE_TEST_OWN_MOUNTS';
const LIMIT_MS = 600_000;

/**
 * A suite that runs in a mount namespace of its own, its file being started again there. Other tests start namespaces at any time, each with a
 * copy of all that is mounted, which keeps file systems and loop devices in use. Without root it runs where it is.
 * @param url `import.meta.url` of the file, which holds nothing else
 */
export function describeAlone(url: string, name: string, define: () => void): void {
  if (process.env[MARK] === '1' || process.getuid?.() !== 0) {
    describe(name, define);
    return;
  }
  it(`${name} (in a mount namespace of its own)`, async () => {
    const ran = await execOnLinux('unshare', ['--mount', 'env', '-u', 'NODE_TEST_CONTEXT', process.execPath, fileURLToPath(url)], {
      env: { [MARK]: '1' },
      timeoutMs: LIMIT_MS,
    });
    assert.equal(ran.exitCode, 0, `${ran.stdout}\n${ran.stderr}`);
    assert.match(ran.stdout, /^# skipped 0$|^ℹ skipped 0$/m, ran.stdout);
  });
}
