import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorRecord, errorTable, exitCodeOf, exitCodes, isErrorCode, PrestageError } from '../../agent/model/errors.ts';

test('an error ends in the exit code that the table gives its code', () => {
  assert.equal(new PrestageError('ERR_LIST', 'm', 'r').exitCode, 6);
  assert.equal(new PrestageError('ERR_SETTINGS', 'm', 'r').exitCode, 2);
  assert.equal(exitCodeOf('ERR_LOCKED'), 8);
});

test('exit codes differ from each other and from 0', () => {
  const numbers: readonly number[] = Object.values(exitCodes);
  assert.deepEqual([...new Set(numbers)], numbers);
  assert.equal(numbers.includes(0), false);
});

test('an error keeps its cause', () => {
  const cause = new Error('below');
  assert.equal(new PrestageError('ERR_LOAD', 'm', 'r', { cause }).cause, cause);
});

test('whatever is thrown becomes a record of code, message and remedy', () => {
  const remedy = 'Report this with the output of: prestage-agent status --output json';
  assert.deepEqual([new PrestageError('ERR_LOCKED', 'm', 'r'), new Error('unforeseen'), 'text'].map(errorRecord), [
    { code: 'ERR_LOCKED', message: 'm', remedy: 'r' },
    { code: 'ERR_INTERNAL', message: 'unforeseen', remedy },
    { code: 'ERR_INTERNAL', message: 'text', remedy },
  ]);
});

test('an error on the way out does not hide the first one', () => {
  const both = new SuppressedError(new PrestageError('ERR_PARTITION_BUSY', 'busy', 'look'), new PrestageError('ERR_LOAD', 'first', 'do'));
  assert.deepEqual(errorRecord(both), { code: 'ERR_LOAD', message: 'first; after that: busy', remedy: 'do; then: look' });
});

test('every code is named ERR_… and says what it is in one line', () => {
  for (const [code, { summary }] of Object.entries(errorTable)) {
    assert.match(code, /^ERR_[A-Z_0-9]+$/);
    assert.match(summary, /^\S[^\n]*[^.\n]$/);
  }
});

test('a code is known where the table has it, and nothing else is', () => {
  assert.deepEqual(['ERR_LOCKED', 'ERR_NEVER', 'toString', 5, undefined].map(isErrorCode), [true, false, false, false, false]);
});
