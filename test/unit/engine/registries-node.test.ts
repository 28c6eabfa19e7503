import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { dialectOf } from '../../../agent/engine/registries-dialect.ts';
import { mainPid, reloadCrio } from '../../../agent/engine/registries-reload.ts';
import { linuxHost } from '../../../agent/host/linux.ts';

test('the dialect goes by the first podman that knows pull-from-mirror, and by the newer one where the version cannot be read', () => {
  const table: readonly (readonly [string, string])[] = [
    ['podman version 3.4.4', 'per-registry'],
    ['podman version 4.1.1\n', 'per-registry'],
    ['podman version 4.2.0', 'per-mirror'],
    ['podman version 4.4.1-rhel', 'per-mirror'],
    ['podman version 5.0.0-dev', 'per-mirror'],
    ['podman version 10.0', 'per-mirror'],
    ['podman', 'per-mirror'],
  ];
  for (const [text, dialect] of table) assert.equal(dialectOf(text), dialect, text);
});

test('the process of a unit is read from what systemctl shows, and 0 is none', () => {
  assert.deepEqual(['MainPID=812\n', 'MainPID=0\n', '', 'MainPID=1\n'].map(mainPid), [812, undefined, undefined, undefined]);
});

test('without systemd nothing is reloaded', async () => {
  const root = await mkdtemp(join(tmpdir(), 'reload-'));
  try {
    assert.equal(await reloadCrio(linuxHost({ root, log: () => {}, env: {} })), 'not-running');
  } finally {
    await rm(root, { recursive: true });
  }
});
