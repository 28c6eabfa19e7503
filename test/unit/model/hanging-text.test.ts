import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hangingText } from '../../../agent/model/hanging-text.ts';

const WORD = 'fifteen-letters';

test('a text that fits is one line', () => {
  assert.equal(hangingText('next: ', 'wait', 6), 'next: wait');
  assert.equal(hangingText('next: ', '', 6), 'next: ');
});

test('a longer text continues below its first word, in lines of at most 80 columns', () => {
  const text = hangingText('next: ', Array.from({ length: 8 }, () => WORD).join(' '), 6);
  assert.equal(text, `next: ${WORD} ${WORD} ${WORD} ${WORD}\n      ${WORD} ${WORD} ${WORD} ${WORD}`);
});

test('a command in backticks stays on one line, with what is joined to it', () => {
  const command = `(\`lsblk -o ${'NAME,'.repeat(10)}\`).`;
  assert.equal(hangingText('', `${WORD} ${WORD} ${command} end`, 2), `${WORD} ${WORD}\n  ${command} end`);
});

test('a word of more than 80 columns has a line of its own', () => {
  const long = 'x'.repeat(100);
  assert.equal(hangingText('a ', `b ${long} c`, 2), `a b\n  ${long}\n  c`);
});
