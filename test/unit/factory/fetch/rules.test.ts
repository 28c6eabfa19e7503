import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  headerFault,
  headFault,
  isSameState,
  parseContentRange,
  parseCount,
  rangeCondition,
} from '../../../../agent/factory/fetch/content.ts';
import { pauseAfter } from '../../../../agent/factory/fetch/download.ts';
import { type FetchRecord, isUnchanged } from '../../../../agent/factory/fetch/journal.ts';
import { below } from '../../../../agent/factory/fetch/plan.ts';
import { folderUrl } from '../../../../agent/factory/fetch/source.ts';
import { FUZZ } from '../../../support/fuzz.ts';
import { codeOf } from '../../../support/thrown.ts';

test('a page is no file, unless the file is called one', () => {
  const page = (path: string) => headerFault(path, { contentType: 'text/html; charset=utf-8', contentEncoding: undefined });
  assert.deepEqual(
    ['a.tgz', 'list.txt', 'prestage.json', 'index.html', 'a.htm'].map((path) => page(path) !== undefined),
    [true, true, true, false, false],
  );
});

test('the compression of an archive may be named, that of any other file is one on the way', () => {
  const encoded = (path: string, contentEncoding: string) => headerFault(path, { contentType: undefined, contentEncoding });
  assert.equal(encoded('a.tgz', 'x-gzip'), undefined);
  assert.equal(encoded('a.txt', 'identity'), undefined);
  assert.equal(encoded('a.txt', 'gzip'), 'is compressed for the transfer (gzip)');
});

for (const [path, head, fault] of [
  ['a.tgz', Buffer.from([0x1f, 0x8b, 8]), undefined],
  ['a.tgz', Buffer.from('PK'), 'is not a gzip file'],
  ['a.tgz', Buffer.alloc(0), 'is not a gzip file'],
  ['b.zst', Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), undefined],
  ['store.squashfs', Buffer.from('hsqs'), undefined],
  ['store.squashfs', Buffer.from('sqsh'), 'is not a squashfs image'],
  ['list.txt', Buffer.from('\n <HTML><body>'), 'is an HTML page'],
  ['list.txt', Buffer.from('quay.io/a:1\n'), undefined],
  ['notes.html', Buffer.from('<!doctype html>'), undefined],
] as const) {
  test(`${path} that begins with ${JSON.stringify(head.toString('latin1'))} ${fault ?? 'is taken'}`, () => {
    assert.equal(headFault(path, head), fault);
  });
}

test('a range and a count are read as the standard has them, and nothing else is', () => {
  assert.deepEqual(parseContentRange('bytes 5-9/10'), { first: 5, total: 10 });
  assert.deepEqual(parseContentRange('bytes 5-9/*'), { first: 5, total: undefined });
  for (const text of [undefined, '', 'bytes */10', 'bytes 5-/10', 'items 5-9/10', 'bytes 5-9/99999999999999999'])
    assert.equal(parseContentRange(text), undefined);
  assert.deepEqual(['0', ' 12 ', '-1', '1e9', '', undefined, '9'.repeat(16)].map(parseCount), [
    0,
    12,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});

test('two states are one by their ETags, else by their dates, and never without either', () => {
  const date = 'Tue, 14 Nov 2023 22:13:20 GMT';
  assert.equal(isSameState({ etag: '"a"' }, { etag: '"a"', lastModified: date }), true);
  assert.equal(isSameState({ etag: '"a"', lastModified: date }, { etag: '"b"', lastModified: date }), false);
  assert.equal(isSameState({ etag: '"a"', lastModified: date }, { lastModified: date }), true);
  assert.equal(isSameState({}, {}), false);
});

test('a range is asked for on condition of a strong ETag or a date', () => {
  assert.equal(rangeCondition({ etag: '"a"', lastModified: 'date' }), '"a"');
  assert.equal(rangeCondition({ etag: 'W/"a"', lastModified: 'date' }), 'date');
  assert.equal(rangeCondition({ etag: 'W/"a"' }), undefined);
});

test('pauses double up to half a minute, and a server is obeyed up to two', () => {
  assert.deepEqual(
    [1, 2, 3, 7, 8, 20].map((failures) => pauseAfter(failures, undefined)),
    [500, 1000, 2000, 30_000, 30_000, 30_000],
  );
  assert.deepEqual([pauseAfter(1, 7000), pauseAfter(1, 3_600_000)], [7000, 120_000]);
});

test('a file stays only where disk and server still have the state that was put there', () => {
  const record: FetchRecord = { path: 'a', url: 'http://h/a', sizeBytes: 5, modifiedMs: 7, etag: '"a"' };
  const local = { sizeBytes: 5, modifiedMs: 7 };
  const remote = { sizeBytes: 5, validator: { etag: '"a"' }, contentType: undefined, contentEncoding: undefined };
  assert.equal(isUnchanged(record, local, remote), true);
  assert.equal(isUnchanged(undefined, local, remote), false);
  assert.equal(isUnchanged(record, undefined, remote), false);
  assert.equal(isUnchanged(record, { ...local, modifiedMs: 8 }, remote), false);
  assert.equal(isUnchanged(record, { ...local, sizeBytes: 4 }, remote), false);
  assert.equal(isUnchanged(record, local, { ...remote, sizeBytes: 6 }), false);
  assert.equal(isUnchanged(record, local, { ...remote, validator: { etag: '"b"' } }), false);
  assert.equal(isUnchanged(record, local, { ...remote, validator: {} }), false);
});

test('an address means its folder, whether it names the manifest or not', () => {
  const folders = ['http://h/a', 'http://h/a/', 'http://h/a/prestage.json', 'http://h/a/?x=1#y'].map((text) => folderUrl(text).href);
  assert.deepEqual(folders, Array(4).fill('http://h/a/'));
  assert.equal(folderUrl('https://user:word@h:8443').href, 'https://user:word@h:8443/');
  for (const text of ['', 'h/a', 'file:///etc', 'ftp://h/', 'http://', 'javascript:alert(1)'])
    assert.equal(
      codeOf(() => folderUrl(text)),
      'ERR_USAGE',
      text,
    );
});

test('law: the address of a path of the manifest lies below the folder and leads back to the path', () => {
  const folder = new URL('http://user:word@h/4.14/');
  const parts = fc
    .string({ minLength: 1, maxLength: 12, unit: 'grapheme' })
    .filter((part) => part !== '.' && part !== '..' && !/[/\0]/.test(part));
  fc.assert(
    fc.property(fc.array(parts, { minLength: 1, maxLength: 4 }), (path) => {
      const url = below(folder, path.join('/'));
      assert.equal(url.host, 'h');
      assert.ok(url.pathname.startsWith(folder.pathname));
      assert.equal(decodeURIComponent(url.pathname.slice(folder.pathname.length)), path.join('/'));
    }),
    { ...FUZZ, examples: [[['http:', 'x']], [['?', '#', '%2e%2e']], [['\\..\\x']]] },
  );
});
