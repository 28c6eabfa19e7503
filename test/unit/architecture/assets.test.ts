import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { asset, assetPaths, version, workerEntry, zlibAddon } from '../../../agent/assets.ts';

test('units, the launcher, ignition templates, schemas and the table of errors travel inside the executable, and nothing else', () => {
  const namesOf = (folder: string, pattern: RegExp) =>
    readdirSync(folder)
      .filter((name) => pattern.test(name))
      .map((name) => `${folder}/${name}`);
  assert.deepEqual(
    assetPaths(),
    [
      ...namesOf('agent/units', /\.(?:service|container|sh)$/),
      ...namesOf('docs', /\.json$|^errors\.md$/),
      ...namesOf('ignition-templates', /\.json$/),
    ].sort(),
  );
});

test('a file that travels is given as the tree has it', () => {
  for (const path of assetPaths()) assert.equal(asset(path), readFileSync(path, 'utf8'));
});

test('a file that does not travel is refused, also where the tree has it', () => {
  assert.throws(() => asset('package.json'), {
    name: 'PrestageError',
    code: 'ERR_INTERNAL',
    message: 'the executable does not contain the file package.json',
    remedy: 'Add its folder and suffix to FOLDERS in agent/assets.ts',
  });
});

test('the version is that of package.json', () => {
  const content: unknown = JSON.parse(readFileSync('package.json', 'utf8'));
  assert.ok(typeof content === 'object' && content !== null && 'version' in content);
  assert.equal(version, content.version);
});

test('in the tree the addon is a module and the worker is a file', () => {
  assert.deepEqual(zlibAddon(), { kind: 'module' });
  assert.deepEqual(workerEntry(), { kind: 'file', url: new URL('../../../agent/extract/worker.ts', import.meta.url) });
});
