import assert from 'node:assert/strict';
import { test } from 'node:test';
import { skippedIn } from '../../support/no-skipped-tests.ts';

// Put together here, so that this file itself holds no match.
const skip = ['sk', 'ip'].join('');

const refused = [
  `test.${skip}('x', () => {});`,
  `  it.${['to', 'do'].join('')}('x');`,
  `describe.${['on', 'ly'].join('')}('x', () => {});`,
  `test('x', { ${skip}: true }, () => {});`,
  `test('x', { ${skip}: 'later' }, () => {});`,
];

for (const line of refused) {
  test(`a test file with ${line.trim()} is refused with its place`, () => {
    assert.deepEqual(skippedIn('a.test.ts', `one\n${line}\nthree\n`), [`a.test.ts:2: ${line.trim()}`]);
  });
}

test('a test that skips itself with a reason, and words that only look alike, pass', () => {
  assert.deepEqual(skippedIn('a.test.ts', `t.${skip}('no root here');\nplan.${skip}(1);\nconst onlyOne = true;\n`), []);
});
