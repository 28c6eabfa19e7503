import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { parse } from 'yaml';
import { painter, render, renderError } from '../../../agent/cli/output.ts';
import { textStream } from '../../../agent/host/text-stream.ts';
import { errorTable, exitCodeOf, isErrorCode } from '../../../agent/model/errors.ts';

/** What comes out of a text that a command writes. */
function shown(text: string, isJournal = false): string {
  let written = '';
  textStream({ write: (part) => (written += part) }, { isJournal }).write(text);
  return written;
}

test('an answer is text, JSON or YAML of the same facts, each with one newline at its end', () => {
  const answer = { data: { kind: 'Status', images: [{ reference: 'a' }] }, text: 'one line' };
  assert.equal(render(answer, 'text'), 'one line\n');
  assert.equal(render({ ...answer, text: 'ends\n' }, 'text'), 'ends\n');
  assert.deepEqual(JSON.parse(render(answer, 'json')), answer.data);
  assert.deepEqual(parse(render(answer, 'yaml')), answer.data);
  for (const form of ['json', 'yaml'] as const) assert.match(render(answer, form), /[^\n]\n$/);
});

test('an error says what, its code and what to do next, and has its exit code as data', () => {
  const error = { code: 'ERR_LOCKED', message: 'held by 7', remedy: 'Wait' } as const;
  assert.equal(renderError(error, 'text'), 'error: held by 7\n  ERR_LOCKED; next: Wait\n');
  const data = { apiVersion: 'prestage-agent/v1', kind: 'Error', error: { ...error, exitCode: 8 } };
  assert.deepEqual(JSON.parse(renderError(error, 'json')), data);
  assert.deepEqual(parse(renderError(error, 'yaml')), data);
});

test('every error code has its exit code in the data of an error', () => {
  for (const code of Object.keys(errorTable).filter(isErrorCode)) {
    const { error } = JSON.parse(renderError({ code, message: 'm', remedy: 'r' }, 'json'));
    assert.deepEqual(error, { code, message: 'm', remedy: 'r', exitCode: exitCodeOf(code) });
  }
});

describe('colours', () => {
  const cases: readonly (readonly [string, boolean, Readonly<Record<string, string>>, boolean])[] = [
    ['are there on a terminal', true, {}, true],
    ['are not there in a pipe', false, {}, false],
    ['go with NO_COLOR', true, { NO_COLOR: '1' }, false],
    ['stay with an empty NO_COLOR', true, { NO_COLOR: '' }, true],
    ['go with TERM=dumb', true, { TERM: 'dumb' }, false],
    ['go with CLICOLOR=0', true, { CLICOLOR: '0' }, false],
    ['come into a pipe with FORCE_COLOR', false, { FORCE_COLOR: '1' }, true],
    ['come into a pipe with CLICOLOR_FORCE', false, { CLICOLOR_FORCE: '1' }, true],
    ['stay away with FORCE_COLOR=0', false, { FORCE_COLOR: '0' }, false],
    ['stay away with an empty CLICOLOR_FORCE', false, { CLICOLOR_FORCE: '' }, false],
    ['come with FORCE_COLOR over NO_COLOR', false, { FORCE_COLOR: '1', NO_COLOR: '1' }, true],
  ];
  for (const [title, isTTY, env, isColoured] of cases) {
    it(title, () => {
      const paint = painter({ out: { isTTY, write: () => true }, env });
      assert.equal(shown(paint('good', 'ready')), isColoured ? '\u001b[32mready\u001b[39m' : 'ready');
    });
  }
});
