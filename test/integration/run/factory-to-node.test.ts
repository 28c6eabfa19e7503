import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, rmdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { makeSandbox, statesOf } from '../../support/agent.ts';
import { builtExecutable } from '../../support/executable.ts';
import { smallImageSet } from '../../support/image-set.ts';
import { assertNothingLeft } from '../../support/loaded.ts';
import { startRegistry } from '../../support/registry.ts';

const LABEL = 'factory-to-node';

describe('from a registry to a node', () => {
  it('pull, build, partition, ignition and run hand on what the next one needs, and the node needs no network', async () => {
    await using sandbox = await makeSandbox();
    const at = (name: string): string => join(sandbox.work, name);
    const agent = async (...args: readonly string[]): Promise<string> => {
      const { exitCode, stdout, stderr } = await sandbox.agent(args);
      assert.equal(exitCode, 0, `${args.join(' ')}: ${stdout}${stderr}`);
      return stdout;
    };
    const set = await smallImageSet();
    let references: readonly string[];
    {
      await using registry = await startRegistry({ near: set.store });
      references = await registry.add(set.store, [set.images.release, set.images.links, set.images.zstd, set.images.otherArchitecture]);
      await writeFile(at('ai-images.txt'), references.map((reference) => `${reference}\n`).join(''));
      await agent('pull', '--list', at('ai-images.txt'), '--to', at('pulled'), '--no-tls-verify');
    }
    const list = ['--list-discovery', at('ai-images.txt')];
    await agent('build', '--from', at('pulled'), '--to', at('bundle'), '--payload', 'oci', ...list, '--agent', await builtExecutable());
    await agent('verify', at('bundle'), '--full');

    const image = at('disk.img');
    await writeFile(image, '');
    await truncate(image, 1200 * 1024 * 1024);
    const agreed = ['--label', LABEL, '--yes', '--expect-serial', image];
    await agent('partition', 'create', image, '--size', '600MiB', ...agreed);
    await agent('partition', 'write', at('bundle'), image, ...agreed);
    await agent('verify', image, '--label', LABEL, '--full');

    const override = JSON.parse(await agent('ignition', 'discovery', '--bundle', at('bundle'), '--label', LABEL));
    const pin = /--bundle-sha256 ([0-9a-f]{64})/.exec(override.systemd.units[0].contents)?.[1];
    assert.equal(
      pin,
      createHash('sha256')
        .update(await readFile(join(at('bundle'), 'prestage.json')))
        .digest('hex'),
    );

    const device = (await output(execOnLinux, 'losetup', ['-fP', '--show', image])).trim();
    try {
      await execOnLinux('partx', ['-a', device]);
      const { exitCode, state } = await sandbox.run([
        '--stage',
        'discovery',
        '--label',
        LABEL,
        '--bundle-sha256',
        pin ?? '',
        '--device-wait',
        '5',
      ]);
      assert.deepEqual(
        [exitCode, state.outcome, state.payload, statesOf(state)],
        [0, 'complete', 'oci', references.map((reference) => [reference, 'loaded'])],
      );
    } finally {
      await execOnLinux('partx', ['-d', device]);
      await output(execOnLinux, 'losetup', ['-d', device]);
    }
    for (const reference of references) assert.equal((await sandbox.podman('image', 'exists', reference)).exitCode, 0, reference);
    // The place of mount points stays; rmdir fails where one is left in it.
    await rmdir(join(sandbox.root, 'run/prestage-agent/partitions'));
    await assertNothingLeft(sandbox);
  });
});
