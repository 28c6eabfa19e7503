import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { execa } from 'execa';

test('npm ci takes the lock file as it is, without asking a registry', async (t) => {
  const folder = await emptyProject();
  t.after(() => rm(folder, { recursive: true, force: true }));
  const { exitCode, stderr } = await npmCi(folder);
  assert.deepEqual({ exitCode, stderr }, { exitCode: 0, stderr: '' });
});

test('npm ci refuses a lock file that lacks an optional package of another platform', async (t) => {
  const folder = await emptyProject();
  t.after(() => rm(folder, { recursive: true, force: true }));
  const lock = join(folder, 'package-lock.json');
  const { packages, ...rest } = JSON.parse(await readFile(lock, 'utf8'));
  delete packages['node_modules/@esbuild/win32-x64'];
  await writeFile(lock, JSON.stringify({ ...rest, packages }));
  assert.notEqual((await npmCi(folder)).exitCode, 0);
});

/** A folder that has only what decides about packages. */
async function emptyProject(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'prestage-lock-'));
  for (const name of ['package.json', 'package-lock.json']) await cp(name, join(folder, name));
  return folder;
}

/** What setup.mjs runs, up to the download. An empty cache and --offline: npm has nothing but the lock file. */
function npmCi(folder: string) {
  return execa('npm', ['ci', '--dry-run', '--ignore-scripts', '--no-audit', '--no-fund', '--offline', '--cache', join(folder, 'cache')], {
    cwd: folder,
    env: { npm_config_loglevel: 'error', npm_config_engine_strict: 'false' },
    reject: false,
  });
}
