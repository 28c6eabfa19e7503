import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { execOnLinux, output } from '../../../agent/host/exec.ts';
import { linuxHost } from '../../../agent/host/linux.ts';
import { loopsOf } from '../../../agent/host/loop.ts';
import { waitFor } from '../../support/agent.ts';
import { runnableRoot } from '../../support/image-files.ts';
import { makeLayer } from '../../support/image-layer.ts';
import { makeImage, writeDirLayout } from '../../support/images.ts';
import { openSandbox, sandboxUnavailable } from '../../support/sandbox.ts';

const unavailable = sandboxUnavailable();
const inSandboxes = (what: string, act: () => Promise<void>): void => {
  it(what, async (t) => {
    if (unavailable === undefined) await act();
    else t.skip(unavailable);
  });
};

inSandboxes('a sandbox shows its own files and no others, and takes them with it', async () => {
  const node = await openSandbox({
    files: { '/etc/prestage-agent/note': 'note\n', '/etc/containers/script': { content: 'x', mode: 0o755 } },
  });
  const { pid } = node;
  try {
    assert.equal(await node.output('cat', ['/etc/prestage-agent/note']), 'note');
    await node.output('sh', [
      '-c',
      'echo inside > /var/lib/prestage-agent/file; echo inside > /run/file; echo inside > /var/tmp/prestage-sandbox',
    ]);
    assert.equal(await readFile(node.path('/var/lib/prestage-agent/file'), 'utf8'), 'inside\n');
    assert.deepEqual(
      ['/etc/prestage-agent/note', '/var/lib/prestage-agent/file', '/run/file', '/var/tmp/prestage-sandbox'].filter((path) =>
        existsSync(path),
      ),
      [],
    );
    assert.deepEqual((await readdir(node.path('/etc/containers'))).toSorted(), [
      'containers.conf',
      'policy.json',
      'registries.conf',
      'script',
      'storage.conf',
    ]);
    assert.equal((await execOnLinux('sh', ['-c', 'grep -c /tmp/node- /proc/self/mountinfo'])).stdout, '0');
  } finally {
    await node[Symbol.asyncDispose]();
  }
  assert.equal(existsSync(`/proc/${pid}`), false);
});

inSandboxes('a sandbox has loopback and no way out', async () => {
  await using node = await openSandbox();
  assert.equal(await node.output('ip', ['-brief', 'route', 'show', 'table', 'all', 'type', 'unicast']), '');
  assert.match(await node.output('ip', ['-brief', 'address']), /^lo +UNKNOWN +127\.0\.0\.1\/8 ::1\/128\s*$/);
  const outside = await node.exec('curl', ['-sS', '--max-time', '2', 'http://192.0.2.1/']);
  assert.equal(outside.exitCode, 7);
});

inSandboxes('a sandbox runs containers, and reaps what they leave', async () => {
  const work = await mkdtemp(join(tmpdir(), 'sandbox-test-'));
  await using _work = { [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }) };
  await using node = await openSandbox();
  const layer = await makeLayer(work, await runnableRoot(['sh', 'sleep']));
  const image = await makeImage(work, { name: 'quay.io/example/shell', tag: 'v1', format: 'oci', layers: [layer] });
  await writeDirLayout(work, image, join(work, 'image'));
  await node.output('skopeo', ['copy', '-q', `dir:${join(work, 'image')}`, `containers-storage:${image.reference}`]);
  assert.equal(await node.output('podman', ['run', '--rm', '--network=host', image.reference, 'sh', '-c', 'echo ran']), 'ran');
  await node.output('podman', ['run', '-d', '--name', 'stays', '--network=host', image.reference, 'sleep', '1000']);
  await node.output('podman', ['rm', '-f', '-t', '0', 'stays']);
  // The sandbox's first process collects them a moment after they end.
  await waitFor('the end of all processes', async () =>
    (await node.output('sh', ['-c', 'ps -e -o stat= | grep -c Z || true'])) === '0' ? true : undefined,
  );
});

inSandboxes('a sandbox frees loop devices, and says how a command ended that took too long', async () => {
  const work = await mkdtemp(join(tmpdir(), 'sandbox-test-'));
  await using _work = { [Symbol.asyncDispose]: async () => await rm(work, { recursive: true, force: true }) };
  const image = join(work, 'image.squashfs');
  await writeFile(join(work, 'file'), 'content');
  await output(execOnLinux, 'mksquashfs', [join(work, 'file'), image, '-quiet', '-no-progress']);
  const node = await openSandbox();
  try {
    await node.output('mount', ['-t', 'squashfs', '-o', 'loop,ro', image, '/var/tmp']);
    node.start('sh', ['-c', 'exec sleep 1000 < /var/tmp/file']);
    assert.equal((await node.exec('sleep', ['1000'], { timeoutMs: 100 })).exitCode, 128 + 9);
    assert.equal((await loopsOf(linuxHost({ root: '/', env: {}, log: () => {} }), image)).length, 1);
  } finally {
    await node[Symbol.asyncDispose]();
  }
  assert.deepEqual(await loopsOf(linuxHost({ root: '/', env: {}, log: () => {} }), image), []);
});

inSandboxes('the hash of /etc tells a changed byte, mode or time, and comes back with them', async () => {
  await using node = await openSandbox({ files: { '/etc/containers/registries.conf.d/a.conf': 'a' } });
  const path = '/etc/containers/registries.conf.d/a.conf';
  const before = await node.etcHash();
  await node.output('cp', ['--preserve=all', path, '/var/tmp/kept']);
  const seen = new Set([before]);
  for (const change of [`printf b > ${path}`, `touch -d @1 ${path}`, `chmod 600 ${path}`, `rm ${path}`]) {
    await node.output('sh', ['-c', `${change}`]);
    seen.add(await node.etcHash());
  }
  assert.equal(seen.size, 5);
  await node.output('cp', ['--preserve=all', '/var/tmp/kept', path]);
  assert.equal(await node.etcHash(), before);
});
