import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { dialectOf, mirrorDialect } from '../../../agent/engine/registries-dialect.ts';
import { reloadCrio } from '../../../agent/engine/registries-reload.ts';
import { execOnLinux } from '../../../agent/host/exec.ts';
import type { Host } from '../../../agent/host/host.ts';
import { linuxHost } from '../../../agent/host/linux.ts';

test('the podman of this machine says its version in the form that is read', async () => {
  const { stdout } = await execOnLinux('podman', ['--version']);
  assert.match(stdout, /^podman version \d+\.\d+\.\d+/);
  assert.equal(await mirrorDialect({ exec: execOnLinux }), dialectOf(stdout));
});

/** A directory that stands for / on a node that systemd runs, with the process that systemctl would name: there is no systemd in a test. */
async function nodeWith(pid: number, work: string): Promise<Host> {
  await mkdir(join(work, 'run/systemd/system'), { recursive: true });
  const host = linuxHost({ root: work, log: () => {}, env: {} });
  return { ...host, exec: async () => ({ stdout: `MainPID=${pid}\n`, stderr: '', exitCode: 0 }) };
}

test('a running CRI-O gets SIGHUP, and any other process of that id gets nothing', async () => {
  const work = await mkdtemp(join(tmpdir(), 'reload-'));
  try {
    const children = await Promise.all(
      ['crio', 'crib'].map(async (name) => {
        await copyFile('/usr/bin/sleep', join(work, name));
        const child = spawn(join(work, name), ['60'], { stdio: 'ignore' });
        await once(child, 'spawn');
        return child;
      }),
    );
    const [crio, other] = children;
    assert.ok(crio?.pid !== undefined && other?.pid !== undefined);
    const ended = once(crio, 'exit');
    assert.equal(await reloadCrio(await nodeWith(crio.pid, work)), 'reloaded');
    assert.deepEqual(await ended, [null, 'SIGHUP']);
    assert.equal(await reloadCrio(await nodeWith(crio.pid, work)), 'not-running');
    assert.equal(await reloadCrio(await nodeWith(other.pid, work)), 'not-running');
    assert.equal(other.signalCode, null);
    other.kill();
    await once(other, 'exit');
  } finally {
    await rm(work, { recursive: true });
  }
});
