import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sealRecord, unsealRecord } from '../../../agent/model/seal.ts';

const keys = fc.string().filter((key) => key !== 'seal' && key !== '__proto__');
const records = fc.dictionary(keys, fc.oneof(fc.string(), fc.integer(), fc.array(fc.string()), fc.constant(null)), {
  noNullPrototype: true,
});

test('law: a sealed record comes back as it was', () => {
  fc.assert(fc.property(records, (record) => assert.deepEqual(unsealRecord(sealRecord(record)), record)));
});

test('law: a record with one character changed does not come back, or comes back as it was', () => {
  fc.assert(
    fc.property(records, fc.nat(), fc.constantFrom('0', 'x', '"', ' ', '}'), (record, at, character) => {
      const text = sealRecord(record);
      const place = at % text.length;
      const found = unsealRecord(text.slice(0, place) + character + text.slice(place + 1));
      if (found !== undefined) assert.deepEqual(found, record);
    }),
  );
});

test('what has no seal, is no object or is cut off is no record', () => {
  assert.deepEqual(['{"a":1}', 'null', '5', '', sealRecord({ a: 1 }).slice(0, 30)].map(unsealRecord), [
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
