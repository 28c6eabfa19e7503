import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { listFaults, quoteInput } from '../../../agent/model/faults.ts';
import { suggest } from '../../../agent/model/suggest.ts';
import { linesOf } from '../../../agent/model/text-lines.ts';

test('one fault is told as it is', () => {
  assert.equal(listFaults('The list cannot be read', ['a.txt:1: wrong']), 'a.txt:1: wrong');
});

test('several faults are told one a line below a heading with their number', () => {
  assert.equal(
    listFaults('The list cannot be read', ['a.txt:1: wrong', 'a.txt:2: worse']),
    'The list cannot be read: 2 faults\na.txt:1: wrong\na.txt:2: worse',
  );
});

test('20 faults are all told, of 21 the last is a count', () => {
  const faults = Array.from({ length: 21 }, (_, index) => `fault ${index + 1}`);
  assert.equal(listFaults('Bad', faults.slice(0, 20)), ['Bad: 20 faults', ...faults.slice(0, 20)].join('\n'));
  assert.equal(listFaults('Bad', faults), ['Bad: 21 faults', ...faults.slice(0, 20), '… and 1 more'].join('\n'));
});

test('a quoted input is cut, and nothing in it can steer a terminal', () => {
  assert.equal(quoteInput('quay.io/a/b:1'), '"quay.io/a/b:1"');
  assert.equal(quoteInput('\u001b[2J\n"x"\u009b\u202e'), '"\\u001b[2J\\n\\"x\\"\\u009b\\u202e"');
  assert.equal(quoteInput('x'.repeat(161)), `"${'x'.repeat(160)}…"`);
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), (text) => assert.doesNotMatch(quoteInput(text), /\p{Cc}|[\u202a-\u202e]/u)),
  );
});

test('a slip of the finger finds the name that was meant', () => {
  const names = ['stage', 'label', 'retries', 'device-wait', 'lock-wait', 'root', 'runroot'];
  const table: readonly (readonly [string, string | undefined])[] = [
    ['lable', 'label'],
    ['labl', 'label'],
    ['labels', 'label'],
    ['deviceWait', 'device-wait'],
    ['DEVICE_WAIT', 'device-wait'],
    ['devce-wait', 'device-wait'],
    ['retrise', 'retries'],
    ['rot', 'root'],
    ['xy', undefined],
    ['partition', undefined],
    ['', undefined],
    ['label'.repeat(20), undefined],
  ];
  assert.deepEqual(
    table.map(([typed]) => [typed, suggest(typed, names)]),
    table,
  );
});

test('every name suggests itself', () => {
  const names = fc.uniqueArray(fc.stringMatching(/^[a-z]{3,12}$/), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(names, (all) =>
      assert.deepEqual(
        all.map((name) => suggest(name, all)),
        all,
      ),
    ),
  );
});

test('LF, CRLF and CR end a line, and a byte order mark is none of the text', () => {
  assert.deepEqual(linesOf('\uFEFFa\r\nb\rc\n\nd'), [
    { content: 'a', line: 1 },
    { content: 'b', line: 2 },
    { content: 'c', line: 3 },
    { content: '', line: 4 },
    { content: 'd', line: 5 },
  ]);
});
