import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorRecord, errorTable, exitCodeOf, exitCodes, isErrorCode, PrestageError } from '../../../agent/model/errors.ts';
import { atPath } from '../../../agent/model/system-error.ts';

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
  const remedy = 'Run prestage-agent report and attach the archive to a bug report';
  assert.deepEqual([new PrestageError('ERR_LOCKED', 'm', 'r'), new Error('unforeseen'), 'text'].map(errorRecord), [
    { code: 'ERR_LOCKED', message: 'm', remedy: 'r' },
    { code: 'ERR_INTERNAL', message: 'unforeseen', remedy },
    { code: 'ERR_INTERNAL', message: 'text', remedy },
  ]);
});

test('what the kernel refuses says what to do about it', () => {
  const refused = (code: string) => errorRecord(Object.assign(new Error(`${code}: what Node says, open '/run/x'`), { code }));
  assert.deepEqual(refused('ENOSPC'), {
    code: 'ERR_SYSTEM',
    message: "ENOSPC: what Node says, open '/run/x'",
    remedy: 'Free space on that file system, then run the command again',
  });
  assert.deepEqual(
    ['EIO', 'EROFS', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'ENOENT', 'toString'].map((code) => refused(code).code),
    [...Array(7).fill('ERR_SYSTEM'), 'ERR_INTERNAL', 'ERR_INTERNAL'],
  );
});

test('a directory that cannot be made with its parents is a refusal, too', () => {
  const error = Object.assign(new Error("ENOENT: no such file or directory, mkdir '/run/x'"), { code: 'ENOENT', syscall: 'mkdir' });
  const { code, remedy } = errorRecord(error);
  assert.deepEqual([code, remedy.startsWith('Find out why that file system cannot be written: ')], ['ERR_SYSTEM', true]);
  assert.equal(errorRecord(Object.assign(error, { syscall: 'open' })).code, 'ERR_INTERNAL');
});

test('an error of an open file gets the path of the file, once', () => {
  const error = Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', syscall: 'fsync' });
  assert.equal(errorRecord(atPath(error, '/run/x')).message, "EIO: i/o error, fsync '/run/x'");
  const named = Object.assign(new Error("EIO: i/o error, open '/run/x'"), { code: 'EIO', syscall: 'open', path: '/run/x' });
  assert.equal(errorRecord(atPath(named, '/run/y')).message, "EIO: i/o error, open '/run/x'");
  assert.equal(atPath('text', '/run/x'), 'text');
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
