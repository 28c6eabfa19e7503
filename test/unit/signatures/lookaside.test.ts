import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../../agent/model/digest.ts';
import { SIGNATURES_LIMIT } from '../../../agent/signatures/attachment.ts';
import { formatLookasideRecord, lookasidePath, parseLookasideRecord } from '../../../agent/signatures/lookaside.ts';
import { thrownBy } from '../../support/thrown.ts';

const [one, two] = [digestOf('one'), digestOf('two')];
const first = { repository: 'quay.io/a/b', subject: one, files: [two, one] };
const second = { repository: 'quay.io/a/c', subject: two, files: [one] };

test('a signature lies where engines look for it', () => {
  assert.equal(lookasidePath('a/b', one, 2), `a/b@sha256=${one.slice('sha256:'.length)}/signature-2`);
});

test('a record gives what was written, and the same bytes in whatever order', () => {
  const text = formatLookasideRecord([second, first]);
  assert.equal(text, formatLookasideRecord([first, second]));
  assert.deepEqual(parseLookasideRecord(text, '/l/record'), [first, second]);
});

test('a record that is not one is refused with every fault', () => {
  const remedy = 'Remove /l/record, then pull again: complete blobs are kept';
  const cases: readonly (readonly [string, RegExp])[] = [
    ['{', /^\/l\/record cannot be read: .*is not JSON/],
    [JSON.stringify({ signatures: [{ ...first, files: [] }] }), /names no signature/],
    [
      JSON.stringify({ signatures: [{ ...first, files: Array.from({ length: SIGNATURES_LIMIT + 1 }, () => one) }] }),
      /names more than 64 signatures/,
    ],
    [
      JSON.stringify({ signatures: [{ ...first, repository: '', subject: '../../etc' }] }),
      /is empty[\s\S]*is not sha256:<64 lower-case hex digits>/,
    ],
  ];
  for (const [text, expected] of cases) {
    const error = thrownBy(() => parseLookasideRecord(text, '/l/record'));
    assert.deepEqual([error.code, error.remedy], ['ERR_SIGNATURE', remedy]);
    assert.match(error.message, expected);
  }
});
