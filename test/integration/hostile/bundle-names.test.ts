import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type AgentResult, makeSandbox, type Sandbox } from '../../support/agent.ts';
import { makeNamedBundle, type NamedBundle, names } from '../../support/named-bundle.ts';

describe('a hostile name in a manifest that nobody pinned', () => {
  let sandbox: Sandbox;
  let bundle: NamedBundle;
  before(async () => {
    sandbox = await makeSandbox();
    bundle = await makeNamedBundle(sandbox.work);
    for (const program of ['podman', 'skopeo', 'mount', 'systemctl'])
      await sandbox.wrap(program, 'echo "$0 $*" >> "$LOG"; exec "$REAL" "$@"');
  });
  after(async () => await sandbox?.[Symbol.asyncDispose]());

  for (const delivery of ['extract', 'mount', 'registry']) {
    it(`comes to no program and into no file: ${delivery}`, async () => {
      for (const [what, change] of Object.entries(names)) {
        const value = 'quay.io/example/x:v1\nExecStartPre=/bin/touch /tmp/owned --privileged';
        await bundle.rename(change, value);
        const ended: AgentResult = await sandbox.agent([
          'run',
          '--stage',
          'installed',
          '--bundle',
          bundle.directory,
          '--delivery',
          delivery,
        ]);
        assert.equal(ended.exitCode, 6, `${what}: ${ended.stdout}${ended.stderr}`);
        assert.match(ended.stderr + ended.stdout, /ERR_REFERENCE/);
      }
      assert.deepEqual(
        (await sandbox.log()).filter((line) => line.includes('owned')),
        [],
      );
    });
  }
});
