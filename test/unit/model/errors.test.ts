import assert from 'node:assert/strict';
import { test } from 'node:test';
import { errorRecord, errorTable, exitCodeOf, exitCodes, isErrorCode, messageOf, PrestageError } from '../../../agent/model/errors.ts';
import { atPath, isDenial, reasonOf } from '../../../agent/model/system-error.ts';

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
    message: '/run/x cannot be read: its file system is full (ENOSPC)',
    remedy: 'Free space on that file system, then run the command again',
  });
  assert.deepEqual(
    ['EIO', 'EROFS', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'ENOENT', 'EACCES', 'toString'].map((code) => refused(code).code),
    [...Array(9).fill('ERR_SYSTEM'), 'ERR_INTERNAL'],
  );
});

test('a directory that cannot be made with its parents is a refusal, too', () => {
  const error = Object.assign(new Error("ENOENT: no such file or directory, mkdir '/run/x'"), { code: 'ENOENT', syscall: 'mkdir' });
  const { code, remedy } = errorRecord(error);
  assert.deepEqual([code, remedy.startsWith('Find out why that file system cannot be written: ')], ['ERR_SYSTEM', true]);
  assert.equal(errorRecord(Object.assign(error, { syscall: 'open' })).remedy, 'Check this path, then run the command again');
});

test('an error of an open file gets the path of the file, once', () => {
  const error = Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO', syscall: 'fsync' });
  assert.equal(errorRecord(atPath(error, '/run/x')).message, '/run/x cannot be written: its disk reports an error (EIO)');
  const named = Object.assign(new Error("EIO: i/o error, open '/run/x'"), { code: 'EIO', syscall: 'open', path: '/run/x' });
  assert.equal(errorRecord(atPath(named, '/run/y')).message, '/run/x cannot be read: its disk reports an error (EIO)');
  assert.equal(atPath('text', '/run/x'), 'text');
});

const refused = (code: string, more: object = {}) => Object.assign(new Error(`${code}: what Node says`), { code, ...more });

test('a refusal of the kernel is told in words, with the path and without the name of the error', () => {
  const table: readonly (readonly [unknown, string])[] = [
    [refused('EACCES', { syscall: 'scandir', path: '/run/x' }), '/run/x cannot be read: this user may not do that'],
    [refused('ENOENT', { syscall: 'rename', path: '/run/x' }), '/run/x cannot be renamed: it does not exist'],
    [refused('ENOENT', { syscall: 'spawn flock', path: 'flock' }), 'flock cannot be started: it does not exist'],
    [refused('EISDIR', { syscall: 'read' }), 'a file cannot be read: it is a folder'],
    [refused('ENOTDIR'), 'a file cannot be read: a part of its path is not a folder'],
    [refused('EXDEV', { syscall: 'link', path: '/run/x' }), '/run/x cannot be created: what Node says (EXDEV)'],
    [refused('ECONNREFUSED', { syscall: 'connect' }), 'ECONNREFUSED: what Node says'],
    [Object.assign(new Error('other'), { code: 'EOTHER', path: '/run/x', syscall: 'open' }), '/run/x cannot be read: other'],
    [new Error('unforeseen'), 'unforeseen'],
    ['text', 'text'],
  ];
  assert.deepEqual(
    table.map(([thrown]) => messageOf(thrown)),
    table.map(([, text]) => text),
  );
  assert.deepEqual([reasonOf('text'), reasonOf(new Error('why'))], ['text', 'why']);
});

test('what this user may not do is found below whatever wraps it', () => {
  const wrap = (cause: unknown) => new PrestageError('ERR_LIST', 'm', 'r', { cause });
  const thrown = [refused('EACCES'), wrap(wrap(refused('EPERM'))), wrap(refused('ENOENT')), wrap(undefined), 'text'];
  assert.deepEqual(thrown.map(isDenial), [true, true, false, false, false]);
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
