import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const GOLDEN = join(import.meta.dirname, '../golden');

/**
 * Holds a text against a file of test/golden, byte for byte. With UPDATE_GOLDEN=1 the file becomes the text; read the difference before it is committed.
 * @param name path below test/golden
 */
export function assertGolden(name: string, actual: string): void {
  const path = join(GOLDEN, name);
  if (process.env.UPDATE_GOLDEN === '1') {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, actual);
    return;
  }
  assert.ok(existsSync(path), `test/golden/${name} is not there; make it with UPDATE_GOLDEN=1`);
  assert.equal(actual, readFileSync(path, 'utf8'), `the output is not that of test/golden/${name}; UPDATE_GOLDEN=1 takes it over`);
}
