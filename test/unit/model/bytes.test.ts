import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatAge, formatBytes, formatDuration, formatRate, numberOf, parseBytes, withAges } from '../../../agent/model/bytes.ts';

test('bytes are told in the binary unit that keeps the figure below 1024', () => {
  const table: readonly (readonly [number, string])[] = [
    [0, '0 B'],
    [0.4, '0 B'],
    [1023, '1023 B'],
    [1023.7, '1.0 KiB'],
    [1024, '1.0 KiB'],
    [1536, '1.5 KiB'],
    [1024 ** 2 - 1, '1.0 MiB'],
    [13_207_024_435, '12.3 GiB'],
    [1024 ** 4, '1.0 TiB'],
    [1024 ** 5, '1.0 PiB'],
    [1024 ** 6 * 3, '3072.0 PiB'],
    [-1, 'unknown'],
    [Number.NaN, 'unknown'],
    [Number.POSITIVE_INFINITY, 'unknown'],
  ];
  assert.deepEqual(
    table.map(([bytes]) => [bytes, formatBytes(bytes)]),
    table,
  );
});

test('the text of a size is never off by more than half of its last digit', () => {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1024 ** 5 }), (bytes) => {
      const [figure = '', unit = ''] = formatBytes(bytes).split(' ');
      const scale = 1024 ** units.indexOf(unit);
      assert.ok(Math.abs(Number(figure) * scale - bytes) <= scale * 0.0500001, formatBytes(bytes));
      assert.ok(Number(figure) < 1024);
    }),
  );
});

test('a rate is bytes a second', () => {
  assert.deepEqual([103_179_878, 0, Number.NaN].map(formatRate), ['98.4 MiB/s', '0 B/s', 'unknown']);
});

test('a span of time is told in its two biggest units', () => {
  const table: readonly (readonly [number, string])[] = [
    [0, '0.0 s'],
    [440, '0.4 s'],
    [9_949, '9.9 s'],
    [9_950, '10 s'],
    [59_499, '59 s'],
    [59_500, '1 min 00 s'],
    [184_000, '3 min 04 s'],
    [3_599_499, '59 min 59 s'],
    [3_599_500, '1 h 00 min'],
    [7_500_000, '2 h 05 min'],
    [360_000_000, '100 h 00 min'],
    [-1, 'unknown'],
    [Number.POSITIVE_INFINITY, 'unknown'],
  ];
  assert.deepEqual(
    table.map(([milliseconds]) => [milliseconds, formatDuration(milliseconds)]),
    table,
  );
});

test('a size is read with binary and decimal units, and nothing else is', () => {
  const table: readonly (readonly [string, number | undefined])[] = [
    ['100GiB', 107_374_182_400],
    ['100G', 107_374_182_400],
    ['100GB', 100_000_000_000],
    ['1.5 TiB', 1_649_267_441_664],
    [' 0B ', 0],
    ['512B', 512],
    ['100', undefined],
    ['', undefined],
    ['-1GiB', undefined],
    ['1gib', undefined],
    ['1.5B', undefined],
    ['1e3GiB', undefined],
    ['999999999999999PiB', undefined],
    ['1XiB', undefined],
  ];
  assert.deepEqual(
    table.map(([text]) => [text, parseBytes(text)]),
    table,
  );
});

test('law: what is told of whole GiB is read as the same', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1023 }), (count) => {
      assert.equal(parseBytes(formatBytes(count * 1024 ** 3)), count * 1024 ** 3);
    }),
  );
});

test('an age is told in the largest unit that it has one of', () => {
  const table: readonly (readonly [number, string])[] = [
    [0, 'just now'],
    [999, 'just now'],
    [1000, '1 second ago'],
    [11 * 60_000 + 59_999, '11 minutes ago'],
    [3_600_000, '1 hour ago'],
    [86_400_000 * 3, '3 days ago'],
  ];
  for (const [milliseconds, text] of table) assert.equal(formatAge(milliseconds), text);
});

test('each time in a text has its age behind it, unless it is still to come', () => {
  const now = new Date('2026-11-21T08:58:20.000Z');
  assert.equal(
    withAges('from 2026-11-21T08:47:12.167Z to 2026-11-21T09:00:00Z', now),
    'from 2026-11-21T08:47:12.167Z (11 minutes ago) to 2026-11-21T09:00:00Z',
  );
});

test('one thing is told apart from several', () => {
  assert.deepEqual(
    [0, 1, 2].map((count) => numberOf(count, 'image')),
    ['0 images', '1 image', '2 images'],
  );
  assert.equal(numberOf(2, 'copy', 'copies'), '2 copies');
});
