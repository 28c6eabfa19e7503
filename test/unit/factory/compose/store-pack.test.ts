import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tenthsOf } from '../../../../agent/factory/compose/store-pack.ts';

test('each tenth of the progress bar of mksquashfs is told once, however its output is cut', () => {
  const bar = (done: number): string => `\r[${'='.repeat(done)}/ ] ${done}/200 ${String(Math.floor(done / 2)).padStart(3)}%`;
  const text = [0, 1, 19, 20, 22, 64, 64, 130, 199, 200].map(bar).join('');
  for (const size of [1, 7, 40, 10_000]) {
    const told: number[] = [];
    const read = tenthsOf((percent) => told.push(percent));
    for (let start = 0; start < text.length; start += size) read(text.slice(start, start + size));
    assert.deepEqual(told, [10, 30, 60, 90, 100], `pieces of ${size}`);
  }
});

test('other output, however long, tells nothing', () => {
  const told: number[] = [];
  const read = tenthsOf((percent) => told.push(percent));
  read('x'.repeat(100_000));
  read('Parallel mksquashfs: 50% of nothing\n');
  assert.deepEqual(told, []);
});
